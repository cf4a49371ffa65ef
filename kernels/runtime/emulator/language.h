// CUDA's keywords, vector types and built-in variables (threadIdx, blockIdx, ...) for g++.
#pragma once
// All headers of the C++ library come before the macros: those of GCC 13 and newer contain the name
// __noinline__, which CUDA defines as a keyword.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#ifdef CHECKED
#include <string>
#include <unordered_map>
#include <vector>
#endif

// compiler.py first preprocesses the source with NAMES_ONLY, to find the kernels by this keyword.
#ifndef NAMES_ONLY
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __ldg(address) (*(address))

using std::abs, std::ceil, std::cos, std::exp, std::expm1, std::fabs, std::floor, std::fma;
using std::fmax, std::fmin, std::isfinite, std::isinf, std::isnan, std::log, std::log1p, std::max;
using std::min, std::pow, std::rint, std::sin, std::sqrt, std::tanh;

// ------------------------------------------------------------------------------ vector types
#define VECTOR_TYPES(T, name)                                                             \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                    \
    struct name##3 { T x, y, z; };                                                        \
    struct alignas(sizeof(T) < 8 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; };         \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                            \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                    \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR_TYPES(float, float)
VECTOR_TYPES(double, double)
VECTOR_TYPES(int, int)
VECTOR_TYPES(unsigned, uint)
#undef VECTOR_TYPES
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// F(name, the value that is stored, given the value `old` in memory and the operand `value`)
#define ATOMIC_OPERATIONS(F) \
    F(atomicAdd, old + value) \
    F(atomicSub, old - value) \
    F(atomicMin, old < value ? old : value) \
    F(atomicMax, old > value ? old : value) \
    F(atomicExch, value) \
    F(atomicAnd, old & value) \
    F(atomicOr, old | value) \
    F(atomicXor, old ^ value)
