// fastnce_bench: the native benchmark. No Python; options are Google Benchmark's (--benchmark_filter=loss/lm ...).
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "fastnce/config.h"
#include "shapes.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("fastnce", std::string(fastnce::version()));
  benchmark::AddCustomContext("isa", std::string(fastnce::isa_in_use()));
  benchmark::AddCustomContext("threads", std::to_string(fastnce::num_threads()));
  fastnce::bench::register_sampler();
  fastnce::bench::register_sampled_loss();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
