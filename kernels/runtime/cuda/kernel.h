// What every .cu file of minigan may use beyond CUDA itself. It stands before the file's text, under
// NVRTC as under the emulator, so the words below mean the same on both.
//
//   REAL                        the dtype that the file is compiled for: float, double, long long, bool
//   In<T> x, Out<T> y           arrays a kernel reads, writes; InOut<T> where it does both
//   SHARED(T, tile, N)          __shared__ T tile[N]
//   DYNAMIC_SHARED(T, tile)     the shared memory whose size the launch gives
//   Shared<T>                   how a function takes either
//   Pack<T, N>, load, store     N neighbours, aligned as a whole: one wide memory instruction
//
// The emulator's checked build replaces the first four by types that notice every access.
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

#if defined(REAL_IS_FLOAT64)
using REAL = double;
#elif defined(REAL_IS_INT64)
using REAL = long long;
#elif defined(REAL_IS_BOOL)
using REAL = bool;
#else
using REAL = float;
#endif

template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T at[N];
};

#ifndef CHECKED
// An array whose address travels in a struct, as a number.
template <class P> __device__ __forceinline__ P array_at(unsigned long long address) {
    return reinterpret_cast<P>(address);
}

// The elements N i .. N i + N - 1.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load(const T* x, long long i) {
    return reinterpret_cast<const Pack<T, N>*>(x)[i];
}

template <int N, class T>
__device__ __forceinline__ void store(T* y, long long i, const Pack<T, N>& values) {
    reinterpret_cast<Pack<T, N>*>(y)[i] = values;
}
#endif

// Numbered through all blocks.
__device__ __forceinline__ long long global_thread() {
    return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// How several arrays are walked together: a shape, and each array's strides over it, in elements.
// Adjacent axes that all of them walk with one stride are merged before. `packed` says that there is
// one axis, with strides 1 or 0, and that every address fits a Pack of 16 / sizeof(REAL) elements.
constexpr int MAX_AXES = 10;
template <int ARRAYS> struct Walk {
    long long size;
    int axes, packed;
    long long sizes[MAX_AXES];
    long long strides[ARRAYS][MAX_AXES];

    // The place of element i in each array.
    __device__ void locate(long long i, long long (&places)[ARRAYS]) const {
        for (int array = 0; array < ARRAYS; ++array) places[array] = 0;
        for (int axis = axes - 1; axis >= 0; --axis) {
            long long position;
            if (size < 4294967296LL) {  // a 64-bit division takes four times as long
                const unsigned line = static_cast<unsigned>(i) / static_cast<unsigned>(sizes[axis]);
                position = i - static_cast<long long>(line) * sizes[axis];
                i = line;
            } else {
                position = i % sizes[axis];
                i /= sizes[axis];
            }
            for (int array = 0; array < ARRAYS; ++array)
                places[array] += position * strides[array][axis];
        }
    }
};
