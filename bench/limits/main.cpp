// fastnce_limits [threads]: what the machine can do at best, in a few seconds, as one JSON object.
#include <cstdio>
#include <cstdlib>

#include "rate.h"

int main(int argc, char** argv) {
  const int threads = argc == 2 ? std::atoi(argv[1]) : 1;
  if (argc > 2 || threads < 1) {
    std::fprintf(stderr, "usage: fastnce_limits [threads]\n");
    return 2;
  }
  const char* separator = "{";
  for (const auto limits : {fastnce::bench::arithmetic_limits, fastnce::bench::memory_limits}) {
    for (const auto& [name, value] : limits(threads)) {
      std::printf("%s\"%s\": %.2f", separator, name.c_str(), value);
      separator = ", ";
    }
  }
  std::printf("}\n");
}
