// Elementwise ops on a GPU: one line per op, a formula of its inputs a, b, c and attributes p, q.
//
// Computes: y = f(a, b, c), for inputs that broadcast. An input may be an array, or a number, which
//     is passed by value beside a null pointer.
// Launch: blocks of 256 threads; one thread per Pack of 16 bytes and one per remaining element, or
//     one thread per element.
//
// Vectorized path. Where all arrays are contiguous (or repeat one number) and aligned, a thread
// loads 16 bytes of each array with one instruction: a warp moves 512 bytes in 16 sectors, the
// fewest possible.
//
// Strided path. For any other strides, broadcasting included, a thread computes one element, and
// finds its offset in each array by dividing the element's index by the sizes of the axes.
//
// Optimizations:
//   - global memory coalescing
//   - vectorized access where it is possible

__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }
__device__ __forceinline__ long long magnitude(long long x) { return x < 0 ? -x : x; }
__device__ __forceinline__ bool magnitude(bool x) { return x; }

// Return max(x, low), NaN where x is NaN.
__device__ __forceinline__ REAL at_least(REAL x, REAL low) { return x < low ? low : x; }

// Load Pack i of an input, or repeat its one number.
template <class T>
__device__ __forceinline__ Pack<T, PACK_SIZE> fetch(const In<T>& x, T number, long long stride,
                                                    long long i) {
    if (x && stride) return load<PACK_SIZE>(x, i);
    const T repeated = x ? static_cast<T>(x[0]) : number;
    Pack<T, PACK_SIZE> pack;
    for (int k = 0; k < PACK_SIZE; ++k) pack.values[k] = repeated;
    return pack;
}

// Apply f to each element. Array 0 of the layout is the output.
template <class R, class A, class B, class C, class F>
__device__ __forceinline__ void map(const Out<R>& y, const In<A>& a, A a_number, const In<B>& b,
                                    B b_number, const In<C>& c, C c_number,
                                    const StridedLayout<4>& layout, F f) {
    const long long i = global_thread();
    if (layout.vectorized) {
        const long long packs = layout.size / PACK_SIZE;
        if (i < packs) {
            const auto u = fetch(a, a_number, layout.strides[1][0], i);
            const auto v = fetch(b, b_number, layout.strides[2][0], i);
            const auto w = fetch(c, c_number, layout.strides[3][0], i);
            Pack<R, PACK_SIZE> out;
            for (int k = 0; k < PACK_SIZE; ++k)
                out.values[k] = f(u.values[k], v.values[k], w.values[k]);
            store<PACK_SIZE>(y, i, out);
        } else if (const long long j = packs * PACK_SIZE + (i - packs); j < layout.size) {
            y[j] = f(a ? static_cast<A>(a[j * layout.strides[1][0]]) : a_number,
                     b ? static_cast<B>(b[j * layout.strides[2][0]]) : b_number,
                     c ? static_cast<C>(c[j * layout.strides[3][0]]) : c_number);
        }
    } else if (i < layout.size) {
        long long offsets[4];
        layout.locate(i, offsets);
        y[offsets[0]] = f(a ? static_cast<A>(a[offsets[1]]) : a_number,
                         b ? static_cast<B>(b[offsets[2]]) : b_number,
                         c ? static_cast<C>(c[offsets[3]]) : c_number);
    }
}

#define MAP(name, R, A, B, C, expression)                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                             \
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
