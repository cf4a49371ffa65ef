// Definitions that every .cu file of minigan may use beyond CUDA itself. The launcher pastes this
// header before the file's text, both for NVRTC and for the emulator's g++.
//
//   REAL                        the file's dtype: float, double, long long or bool
//   In<T> x, Out<T> y           kernel parameters: arrays that are read, written; InOut<T> for both
//   SHARED(T, tile, N)          __shared__ T tile[N]
//   DYNAMIC_SHARED(T, tile)     dynamic shared memory, whose size is a launch parameter
//   Shared<T>                   a function parameter that takes either kind of shared array
//   Pack<T, N>, load, store     N consecutive, aligned elements: one vectorized memory access
//
// On a GPU and in the emulator's fast build these are raw pointers and __shared__ arrays. The
// emulator's checked build replaces the array types by classes that check each access (checked.h).
#ifdef EMULATOR
#include "emulator.h"
#endif
#ifndef CHECKED
template <class T> using In = const T* __restrict__;
template <class T> using Out = T* __restrict__;
template <class T> using InOut = T*;
template <class T> using Shared = T*;
#endif
#ifndef EMULATOR
#define SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define DYNAMIC_SHARED(T, name)                                      \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    T* name = reinterpret_cast<T*>(dynamic_shared)
#endif


// What tutorials take from headers that NVRTC cannot include: limits.h, float.h, math_constants.h.
#ifndef INT_MAX
#define INT_MAX 2147483647
#define INT_MIN (-INT_MAX - 1)
#define UINT_MAX 4294967295u
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define DBL_MAX 1.7976931348623158e+308
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define M_PI 3.14159265358979323846
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
#endif
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_PI_F 3.141592654f
#define CUDART_PI 3.1415926535897931

#if defined(REAL_IS_FLOAT64)
using REAL = double;
#elif defined(REAL_IS_INT64)
using REAL = long long;
#elif defined(REAL_IS_BOOL)
using REAL = bool;
#else
using REAL = float;
#endif

// A vectorized access moves at most 16 bytes per thread.
constexpr int PACK_SIZE = 16 / sizeof(REAL);

template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T values[N];
};

#ifndef CHECKED
// Return the array (In<T>, Out<T> or InOut<T>) whose address was passed inside a struct.
template <class P> __device__ __forceinline__ P array_at(unsigned long long address) {
    return reinterpret_cast<P>(address);
}

// Load the elements N i .. N i + N - 1 of x, whose address is a multiple of the Pack's alignment.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load(const T* x, long long i) {
    return reinterpret_cast<const Pack<T, N>*>(x)[i];
}

// Store a Pack to the elements N i .. N i + N - 1 of y.
template <int N, class T>
__device__ __forceinline__ void store(T* y, long long i, const Pack<T, N>& pack) {
    reinterpret_cast<Pack<T, N>*>(y)[i] = pack;
}
#endif

// Return the index of this thread in the grid, for one-dimensional grids and blocks.
__device__ __forceinline__ long long global_thread() {
    return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Return i / divisor for nonnegative numbers. A 64-bit division takes about four times as long as a
// 32-bit one, so the latter is used where both operands fit.
__device__ __forceinline__ long long integer_divide(long long i, long long divisor) {
    if ((i | divisor) >> 32) return i / divisor;
    return static_cast<unsigned>(i) / static_cast<unsigned>(divisor);
}

// A common shape for several arrays, and the strides of each array over it, in elements (0 where an
// array is broadcast). The host merges adjacent axes that all arrays step through with one stride,
// so contiguous arrays have one axis. `vectorized` is not 0 where there is one axis, along which
// the first array has stride 1 and the others 1 or 0, and every array's address is a multiple of
// the size of a Pack of PACK_SIZE elements: then bit k tells that array k has stride 1.
constexpr int MAX_AXES = 10;
template <int ARRAYS> struct StridedLayout {
    long long size;
    int axes, vectorized;
    long long sizes[MAX_AXES];
    long long strides[ARRAYS][MAX_AXES];

    // Compute the offset of element i (in row-major order of the shape) in each array.
    __device__ void locate(long long i, long long (&offsets)[ARRAYS]) const {
        for (int array = 0; array < ARRAYS; ++array) offsets[array] = 0;
        for (int axis = axes - 1; axis >= 0; --axis) {
            long long position;
            if (size < 4294967296LL) {  // a 64-bit division takes four times as long
                const unsigned quotient =
                    static_cast<unsigned>(i) / static_cast<unsigned>(sizes[axis]);
                position = i - static_cast<long long>(quotient) * sizes[axis];
                i = quotient;
            } else {
                position = i % sizes[axis];
                i /= sizes[axis];
            }
            for (int array = 0; array < ARRAYS; ++array)
                offsets[array] += position * strides[array][axis];
        }
    }
};
