// The handlers for JAX behind XLA's C ABI: registration, versions, and calls that do not fit.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings/jax/jax_ffi.h"
#include "xla_call.h"

namespace fastnce {
namespace {

using bindings::jax::kLossOnCpu;
using bindings::jax::kLossOnCuda;
using bindings::jax::kSamplerOnCpu;
using bindings::jax::kSamplerOnCuda;
using bindings::jax::kSetRowsOnCpu;
using bindings::jax::kUpdateRowsOnCpu;
using bindings::jax::kUpdateRowsOnCuda;

xla::Api api_of(std::int32_t major, std::int32_t minor, std::size_t size = sizeof(xla::Api)) {
  xla::Api api = xla_side();
  api.version.major = major;
  api.version.minor = minor;
  api.head.struct_size = size;
  return api;
}

// Two rows of a table of three, which a correct call replaces.
struct RowsCall {
  explicit RowsCall(const xla::Api& api) : call(api) {}

  XlaCall& with(std::int64_t rows = 2) {
    return call.operand(table.data(), {3, 2}).operand(ids.data(), {2}).operand(rows_.data(), {rows, 2});
  }

  std::vector<float> table{0, 0, 0, 0, 0, 0}, rows_{1, 2, 3, 4};
  std::vector<std::int32_t> ids{0, 2};
  XlaCall call;
};

// What a handler answers when XLA registers it: as jaxlib 0.5 to 0.8.0 ask where `api` is null.
xla::Metadata registered(xla::Handler* handler, const xla::Api* api) {
  xla::Metadata metadata{xla::kSize<xla::Metadata>, {xla::head<xla::Version>(), -1, -1}, 7};
  xla::MetadataExtension extension{{sizeof(xla::MetadataExtension), xla::ExtensionType::kMetadata, nullptr}, &metadata};
  const xla::Api none{};
  XlaCall call(none);
  call.frame.api = api;
  call.frame.head.extensions = &extension.base;
  EXPECT_EQ(call.error_of(handler), nullptr);
  return metadata;
}

std::string refusal(xla::Handler* handler, const xla::Api& api) {
  RowsCall rows(api);
  return rows.with().result(rows.table.data(), {3, 2}).run(handler);
}

TEST(XlaFfi, RegistrationReportsTheNewestVersionThatBothSidesKnow) {
  for (xla::Handler* const handler :
       {kLossOnCpu, kLossOnCuda, kSamplerOnCpu, kSamplerOnCuda, kSetRowsOnCpu, kUpdateRowsOnCpu, kUpdateRowsOnCuda}) {
    for (const auto& [xla_minor, reported] : {std::pair{1, 1}, {2, 2}, {3, 3}, {9, 3}}) {
      const xla::Api api = api_of(0, xla_minor);
      const xla::Metadata metadata = registered(handler, &api);
      EXPECT_EQ(metadata.version.major, 0);
      EXPECT_EQ(metadata.version.minor, reported);
      EXPECT_EQ(metadata.version.head.struct_size, 24u);
      EXPECT_EQ(metadata.traits, 0u);
    }
    EXPECT_EQ(registered(handler, nullptr).version.minor, 1);
  }
}

TEST(XlaFfi, RegistrationWritesNothingBehindOldStructs) {
  xla::Metadata metadata{xla::kSize<xla::Metadata> - 4, {}, 7};
  xla::MetadataExtension extension{{sizeof(xla::MetadataExtension), xla::ExtensionType::kMetadata, nullptr}, &metadata};
  const xla::Api api = xla_side();
  XlaCall call(api);
  call.frame.head.extensions = &extension.base;
  EXPECT_NE(call.run(kLossOnCpu).find("install a newer jax"), std::string::npos);
  EXPECT_EQ(metadata.traits, 7u);
}

TEST(XlaFfi, CallsRunWithEveryVersionOfTheInterface) {
  for (const std::int32_t minor : {1, 2, 3, 9}) {
    // 88 bytes: what jaxlib 0.5 says that it offers.
    const xla::Api api = api_of(0, minor, minor == 1 ? 88 : sizeof(xla::Api));
    RowsCall rows(api);
    EXPECT_EQ(rows.with().result(rows.table.data(), {3, 2}).run(kSetRowsOnCpu), "");
    EXPECT_EQ(rows.table, (std::vector<float>{1, 2, 0, 0, 3, 4}));
  }
}

TEST(XlaFfi, UnknownVersionsAreRefused) {
  const std::string old = refusal(kSetRowsOnCpu, api_of(0, 0));
  EXPECT_NE(old.find("this jaxlib has 0.0"), std::string::npos) << old;
  // How an XLA of another major version makes errors is unknown; all known ones turn exceptions into errors.
  try {
    refusal(kSetRowsOnCpu, api_of(1, 0));
    ADD_FAILURE() << "not refused";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("versions 0.1 to 0.3"), std::string::npos) << error.what();
  }
}

TEST(XlaFfi, TooSmallStructsAreRefused) {
  const xla::Api whole = xla_side(), nothing = api_of(0, 1, 48), jax_05 = api_of(0, 1, 88);
  EXPECT_THROW(refusal(kSetRowsOnCpu, nothing), std::runtime_error);
  const std::string on_cuda = refusal(kLossOnCuda, jax_05);
  EXPECT_NE(on_cuda.find("install jax 0.6 or newer"), std::string::npos) << on_cuda;
  RowsCall rows(whole);
  rows.call.frame.head.struct_size -= 8;
  EXPECT_THROW(rows.with().run(kSetRowsOnCpu), std::runtime_error);
  rows.call.frame.head.struct_size += 8;
  rows.call.frame.api = nullptr;
  EXPECT_THROW(rows.call.run(kSetRowsOnCpu), std::runtime_error);
}

TEST(XlaFfi, CallsThatDoNotFitAreRefusedBeforeAnythingIsWritten) {
  const xla::Api api = xla_side();
  const auto expect_refused = [](RowsCall& rows, const char* part) {
    const std::unique_ptr<xla::Error> error = rows.call.error_of(kSetRowsOnCpu);
    ASSERT_NE(error, nullptr) << part;
    EXPECT_EQ(error->code, xla::ErrorCode::kInvalidArgument);
    EXPECT_NE(error->message.find(part), std::string::npos) << error->message;
    EXPECT_EQ(rows.table, std::vector<float>(6, 0));
  };
  RowsCall no_result(api), short_rows(api), flat(api), other_stage(api), outside(api);
  no_result.with();
  expect_refused(no_result, "0 results: expected 1");
  short_rows.with(1).result(short_rows.table.data(), {3, 2});
  expect_refused(short_rows, "rows of 8 bytes: expected 2 of 8");
  flat.with().result(flat.table.data(), {});
  expect_refused(flat, "rank 0");
  other_stage.with().result(other_stage.table.data(), {3, 2});
  other_stage.call.frame.stage = xla::Stage::kPrepare;
  expect_refused(other_stage, "one stage");
  outside.ids[1] = 3;
  outside.with().result(outside.table.data(), {3, 2});
  expect_refused(outside, "rows.ids[1] = 3 is outside [0, 3)");
}

TEST(XlaFfi, AttributesAreFoundByNameAndChecked) {
  const xla::Api api = xla_side();
  std::vector<std::uint32_t> key{3, 4};
  std::vector<std::int32_t> classes{0, 1}, ids(10);
  std::vector<float> counts(7);
  const auto call = [&] {
    XlaCall made(api);
    made.operand(key.data(), {2}).operand(classes.data(), {2, 1}).result(ids.data(), {5, 2});
    made.result(counts.data(), {2, 1}).result(counts.data() + 2, {5});
    return made;
  };
  auto texts = [](XlaCall& made) -> XlaCall& {
    return made.attribute("classes_name", "labels").attribute("range_name", "num_classes");
  };
  XlaCall good = call(), untyped = call(), missing = call();
  EXPECT_EQ(texts(good).attribute("unique", true).attribute("range_max", std::int64_t{9}).run(kSamplerOnCpu), "");
  EXPECT_GT(counts[0], 0.0f);
  EXPECT_NE(texts(untyped)
                .attribute("unique", std::int64_t{1})
                .attribute("range_max", std::int64_t{9})
                .run(kSamplerOnCpu)
                .find("attribute unique"),
            std::string::npos);
  EXPECT_NE(texts(missing).attribute("unique", true).run(kSamplerOnCpu).find("attribute range_max is missing"),
            std::string::npos);
}

}  // namespace
}  // namespace fastnce
