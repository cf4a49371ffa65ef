// CUDA's mathematical functions and intrinsics, beyond those of C's math.h.
#pragma once

#include "language.h"

// CUDA has min and max of these mixed types; those of equal types are std::min and std::max.
#define MIXED(A, B, T)                                                                       \
    inline T min(A a, B b) { return std::min(static_cast<T>(a), static_cast<T>(b)); }        \
    inline T max(A a, B b) { return std::max(static_cast<T>(a), static_cast<T>(b)); }        \
    inline T min(B a, A b) { return std::min(static_cast<T>(a), static_cast<T>(b)); }        \
    inline T max(B a, A b) { return std::max(static_cast<T>(a), static_cast<T>(b)); }
MIXED(int, unsigned, unsigned)
MIXED(long, unsigned long, unsigned long)
MIXED(long long, unsigned long long, unsigned long long)
MIXED(float, double, double)
#undef MIXED
inline long long llmin(long long a, long long b) { return a < b ? a : b; }
inline long long llmax(long long a, long long b) { return a < b ? b : a; }

// Macros, because math.h of the GNU C library declares some of these names too. The fast
// approximations of a GPU are exact here: results differ in the last bits.
#define rsqrtf(x) (1.0f / std::sqrt(static_cast<float>(x)))
#define rsqrt(x) (1 / std::sqrt(x))
#define __expf(x) std::exp(static_cast<float>(x))
#define __exp10f(x) std::pow(10.0f, static_cast<float>(x))
#define __logf(x) std::log(static_cast<float>(x))
#define __log2f(x) std::log2(static_cast<float>(x))
#define __log10f(x) std::log10(static_cast<float>(x))
#define __powf(x, y) std::pow(static_cast<float>(x), static_cast<float>(y))
#define __sinf(x) std::sin(static_cast<float>(x))
#define __cosf(x) std::cos(static_cast<float>(x))
#define __tanf(x) std::tan(static_cast<float>(x))
#define __sincosf(x, sine, cosine) sincosf(x, sine, cosine)
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
// With the rounding mode "to nearest", which is also that of + - * /.
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }

// ------------------------------------------------------------------------------- conversions
namespace emulator {
template <class To, class From> To same_bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
// Convert a float to an integer type as a GPU does: out of range becomes the nearest, NaN becomes 0.
template <class To> To to_integer(double x) {
    if (x != x) return 0;
    if (x < static_cast<double>(std::numeric_limits<To>::min()))
        return std::numeric_limits<To>::min();
    if (x >= static_cast<double>(std::numeric_limits<To>::max()))
        return std::numeric_limits<To>::max();
    return static_cast<To>(x);
}
}  // namespace emulator
inline int __float_as_int(float x) { return emulator::same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::same_bits<double>(x); }
inline int __float2int_rn(float x) { return emulator::to_integer<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return emulator::to_integer<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return emulator::to_integer<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return emulator::to_integer<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return emulator::to_integer<unsigned>(std::nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return emulator::to_integer<unsigned>(std::trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

// ---------------------------------------------------------------------------------- integers
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) {
    return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int bit = 0; bit < 32; ++bit) y |= (x >> bit & 1u) << (31 - bit);
    return y;
}
inline int __mul24(int a, int b) { return a * b; }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<std::uint64_t>(a) * b >> 32);
}
inline unsigned __sad(int a, int b, unsigned sum) {
    return sum + static_cast<unsigned>(a < b ? b - a : a - b);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>(
        (static_cast<std::uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (shift & 31));
}
