// Elementwise ops on a GPU: one line per op, a formula of its inputs a, b, c and attributes p, q.
//
// Computes: y = f(a, b, c), for inputs that broadcast. An input may be an array, or a number, which
//     is passed by value beside a null pointer.
// Launch: blocks of 64 threads; a thread for each element or, in the vectorized path, for each 4
// Packs
//     of 16 bytes (bools: for each Pack).
//
// Vectorized path. Where all arrays are contiguous (or repeat one number) and aligned, a thread
// loads 16 bytes of an array with one instruction: a warp moves 512 bytes in 16 sectors, the fewest
// possible. It loads four Packs of each array before it uses the first: so there are enough bytes
// on their way, and what a thread has to find out first, its indices and which inputs are numbers,
// is shared by 16 elements.
//
// Strided path. For any other strides, broadcasting included, a thread computes one element, and
// finds its offset in each array by dividing the element's index by the sizes of the axes.
//
// Optimizations:
//   - global memory coalescing
//   - vectorized access where it is possible, several loads in flight

__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }
__device__ __forceinline__ long long magnitude(long long x) { return x < 0 ? -x : x; }
__device__ __forceinline__ bool magnitude(bool x) { return x; }

// Return max(x, low), NaN where x is NaN.
__device__ __forceinline__ REAL at_least(REAL x, REAL low) { return x < low ? low : x; }

constexpr int THREADS = 64;  // of a block
constexpr int PACKS = sizeof(REAL) == 1 ? 1 : 4;  // of a thread, in the vectorized path

// An input: an array, or the number that stands for each of its elements if it is a null pointer.
template <class T> struct Input {
    const In<T>& x;
    T number;
    bool contiguous;  // in the vectorized path: has stride 1, not 0

    __device__ __forceinline__ T at(long long offset) const {
        return x ? static_cast<T>(x[offset]) : number;
    }
    // Load the Packs first, first + THREADS, ... of which `count` exist, or repeat the one number.
    template <bool ALL_EXIST>
    __device__ __forceinline__ void load_packs(unsigned first, unsigned count,
                                               Pack<T, PACK_SIZE> (&packs)[PACKS]) const {
        if (contiguous) {
#pragma unroll
            for (unsigned j = 0; j < PACKS; ++j)
                if (ALL_EXIST || j < count)
                    packs[j] = load<PACK_SIZE>(x, static_cast<long long>(first) + j * THREADS);
        } else {
            const T repeated = at(0);
#pragma unroll
            for (int j = 0; j < PACKS; ++j)
#pragma unroll
                for (int k = 0; k < PACK_SIZE; ++k) packs[j].values[k] = repeated;
        }
    }
};

// Apply f to the Packs first, first + THREADS, ..., of which `count` exist.
template <bool ALL_EXIST, class R, class A, class B, class C, class F>
__device__ __forceinline__ void map_packs(const Out<R>& y, const Input<A>& a, const Input<B>& b,
                                          const Input<C>& c, unsigned first, unsigned count, F f) {
    Pack<A, PACK_SIZE> u[PACKS];
    Pack<B, PACK_SIZE> v[PACKS];
    Pack<C, PACK_SIZE> w[PACKS];
    a.template load_packs<ALL_EXIST>(first, count, u);
    b.template load_packs<ALL_EXIST>(first, count, v);
    c.template load_packs<ALL_EXIST>(first, count, w);
#pragma unroll
    for (unsigned j = 0; j < PACKS; ++j) {
        if (!ALL_EXIST && j >= count) break;
        Pack<R, PACK_SIZE> out;
#pragma unroll
        for (int k = 0; k < PACK_SIZE; ++k)
            out.values[k] = f(u[j].values[k], v[j].values[k], w[j].values[k]);
        store<PACK_SIZE>(y, static_cast<long long>(first) + j * THREADS, out);
    }
}

// Apply f to each element. Array 0 of the layout is the output.
template <class R, class A, class B, class C, class F>
__device__ __forceinline__ void map(const Out<R>& y, const In<A>& a_array, A a_number,
                                    const In<B>& b_array, B b_number, const In<C>& c_array,
                                    C c_number, const StridedLayout<4>& layout, F f) {
    const Input<A> a{a_array, a_number, (layout.vectorized & 2) != 0};
    const Input<B> b{b_array, b_number, (layout.vectorized & 4) != 0};
    const Input<C> c{c_array, c_number, (layout.vectorized & 8) != 0};
    if (layout.vectorized) {
        const unsigned first = blockIdx.x * (THREADS * PACKS) + threadIdx.x;  // fewer than 2^32
        constexpr unsigned BLOCK_ELEMENTS = THREADS * PACKS * PACK_SIZE;
        const bool all_whole = static_cast<unsigned>(layout.size) % BLOCK_ELEMENTS == 0;
        if (blockIdx.x + 1 < gridDim.x || all_whole) {
            map_packs<true>(y, a, b, c, first, PACKS, f);
            return;
        }
        const long long packs = layout.size / PACK_SIZE;
        if (first < packs) {
            const unsigned count = (static_cast<unsigned>(packs) - first + THREADS - 1) / THREADS;
            map_packs<false>(y, a, b, c, first, count, f);
        }
        const long long i = packs * PACK_SIZE + threadIdx.x;
        if (i < layout.size)
            y[i] = f(a.at(i * a.contiguous), b.at(i * b.contiguous), c.at(i * c.contiguous));
    } else if (const long long i = global_thread(); i < layout.size) {
        long long offsets[4];
        layout.locate(i, offsets);
        y[offsets[0]] = f(a.at(offsets[1]), b.at(offsets[2]), c.at(offsets[3]));
    }
}

// Eight blocks leave each thread 128 registers: otherwise the compiler keeps 64, and spills some.
#define MAP(name, R, A, B, C, expression)                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 8)                                       \
        name(Out<R> y, In<A> a, A a_number, In<B> b, B b_number, In<C> c, C c_number, REAL p,     \
             REAL q, StridedLayout<4> layout) {                                                   \
        map<R, A, B, C>(y, a, a_number, b, b_number, c, c_number, layout, [p, q](A a, B b, C c) { \
            (void)a, (void)b, (void)c, (void)p, (void)q;                                          \
            return static_cast<R>(expression);                                                    \
        });                                                                                       \
    }
#define FUNCTION(name, expression) MAP(name, REAL, REAL, REAL, REAL, expression)
#define COMPARISON(name, expression) MAP(name, bool, REAL, REAL, REAL, expression)

// ----------------------------------------------------------------------------------- all dtypes
FUNCTION(copy, a)
FUNCTION(add, a + b)
FUNCTION(multiply, a * b)
FUNCTION(abs_, magnitude(a))
MAP(where, REAL, bool, REAL, REAL, a ? b : c)
COMPARISON(greater, a > b)
COMPARISON(greater_equal, a >= b)
COMPARISON(less, a < b)
COMPARISON(less_equal, a <= b)
COMPARISON(equal, a == b)
COMPARISON(not_equal, a != b)
MAP(cast_float32, float, REAL, REAL, REAL, a)
MAP(cast_float64, double, REAL, REAL, REAL, a)
MAP(cast_int64, long long, REAL, REAL, REAL, a)
MAP(cast_bool, bool, REAL, REAL, REAL, a != REAL(0))

#ifndef REAL_IS_BOOL
FUNCTION(subtract, a - b)
FUNCTION(negative, -a)
FUNCTION(sign, a != a ? a : REAL(a > REAL(0)) - REAL(a < REAL(0)))
#endif

// ----------------------------------------------------------------------------------- floats
#if defined(REAL_IS_FLOAT32) || defined(REAL_IS_FLOAT64)
FUNCTION(divide, a / b)
FUNCTION(power, pow(a, b))
FUNCTION(exp_, exp(a))
FUNCTION(log_, log(a))
FUNCTION(sqrt_, sqrt(a))
FUNCTION(sigmoid, REAL(1) / (REAL(1) + exp(-a)))
FUNCTION(sigmoid_grad, a * b * (REAL(1) - b))
FUNCTION(tanh_, tanh(a))
FUNCTION(tanh_grad, a * (REAL(1) - b * b))
FUNCTION(softplus, at_least(a, REAL(0)) + log1p(exp(-magnitude(a))))
FUNCTION(gelu, a * REAL(0.5) * erfc(-a * REAL(0.7071067811865476)))
FUNCTION(gelu_grad, a * (REAL(0.5) * erfc(-b * REAL(0.7071067811865476)) +
                         b * exp(b * b * REAL(-0.5)) * REAL(0.3989422804014327)))
FUNCTION(relu, a <= REAL(0) ? REAL(0) : a)
FUNCTION(relu_grad, b <= REAL(0) ? REAL(0) : a)
FUNCTION(leaky_relu, a > REAL(0) ? a : a * p)
FUNCTION(leaky_relu_grad, b > REAL(0) ? a : a * p)
FUNCTION(maximum, a >= b || a != a ? a : b)
FUNCTION(minimum, a <= b || a != a ? a : b)
FUNCTION(tie_grad, b < c ? REAL(0) : b == c ? a * REAL(0.5) : a)
FUNCTION(dropout, b > REAL(0.5) ? a * p : REAL(0))
FUNCTION(clip, a < p ? p : a > q ? q : a)
FUNCTION(clip_grad, b >= p && b <= q ? a : REAL(0))
FUNCTION(binary_cross_entropy,
         -b * at_least(log(a), REAL(-100)) - (REAL(1) - b) * at_least(log1p(-a), REAL(-100)))
#endif
