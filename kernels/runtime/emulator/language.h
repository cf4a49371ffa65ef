// CUDA's keywords, vector types and built-in variables (threadIdx, blockIdx, ...) for g++.
// translate.py rewrites what a macro cannot: extern __shared__, and __shared__ in the checked
// build.
#pragma once
// All headers of the C++ library come before the macros: those of GCC 13 and newer contain the name
// __noinline__, which CUDA defines as a keyword.
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <limits>
#include <math.h>
#include <optional>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <unistd.h>
#include <utility>
#ifdef EMULATOR_RUNTIME
#include <array>
#include <link.h>
#include <string>
#include <unordered_map>
#include <vector>
#endif

// compiler.py first preprocesses the source with NAMES_ONLY, to find the kernels by this keyword.
#ifdef NAMES_ONLY
#elif defined(CHECKED)
#define __global__ __attribute__((flatten))  // inlines all calls: see FLAGS of compiler.py
#else
#define __global__
#endif
#define __device__
#define __host__
#define __managed__
#define __constant__ static
#define __shared__ static __attribute__((aligned(16)))
#define __forceinline__ inline __attribute__((always_inline))
#ifdef CHECKED
#define __noinline__
#else
#define __noinline__ __attribute__((noinline))
#endif
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
// Loads and stores with a hint for the caches, which has no effect here.
#define __ldg(address) (*(address))
#define __ldca(address) (*(address))
#define __ldcg(address) (*(address))
#define __ldcs(address) (*(address))
#define __ldlu(address) (*(address))
#define __ldcv(address) (*(address))
#define __stwb(address, value) static_cast<void>(*(address) = (value))
#define __stcg(address, value) static_cast<void>(*(address) = (value))
#define __stcs(address, value) static_cast<void>(*(address) = (value))
#define __stwt(address, value) static_cast<void>(*(address) = (value))
#define printf emulator::print
#undef assert
#define assert(condition) \
    ((condition) ? static_cast<void>(0) : emulator::stop(__LINE__, "the assertion " #condition))
#define __trap() emulator::stop(__LINE__, "__trap()")

using std::abs, std::ceil, std::cos, std::exp, std::expm1, std::fabs, std::floor, std::fma;
using std::fmax, std::fmin, std::isfinite, std::isinf, std::isnan, std::log, std::log1p, std::max;
using std::min, std::pow, std::rint, std::sin, std::sqrt, std::tanh;

// ------------------------------------------------------------------------------ vector types
template <class T> constexpr int component_size = sizeof(T);  // of the numbers of a vector type
#define VECTOR_TYPES(T, name)                                                             \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                    \
    struct name##3 { T x, y, z; };                                                        \
    struct alignas(sizeof(T) < 8 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; };         \
    template <> constexpr int component_size<name##2> = sizeof(T);                        \
    template <> constexpr int component_size<name##3> = sizeof(T);                        \
    template <> constexpr int component_size<name##4> = sizeof(T);                        \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                            \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                    \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR_TYPES(float, float)
VECTOR_TYPES(double, double)
VECTOR_TYPES(char, char)
VECTOR_TYPES(unsigned char, uchar)
VECTOR_TYPES(short, short)
VECTOR_TYPES(unsigned short, ushort)
VECTOR_TYPES(int, int)
VECTOR_TYPES(unsigned, uint)
VECTOR_TYPES(long long, longlong)
VECTOR_TYPES(unsigned long long, ulonglong)
#undef VECTOR_TYPES
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#ifndef CHECKED
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
#elif defined(EMULATOR_RUNTIME)
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
#else  // Constants without a constructor: reading these takes no check.
extern const uint3 threadIdx, blockIdx, blockDim, gridDim;
#endif
constexpr int warpSize = 32;
