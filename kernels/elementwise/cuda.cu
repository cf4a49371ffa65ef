// Ops on each element: one line per op, from its inputs a, b, c and its attributes p, q.
//
// Every kernel has the same two ways through memory:
//   packed    all arrays lie contiguous (or are one number): a thread takes 16 bytes of each array
//             with one wide load, so a warp moves 512 bytes with one instruction
//   walked    any strides, broadcasting: a thread takes one element, whose place in each array it
//             finds by dividing its number by the sizes of the axes
// An input may also be a number, which comes by value beside a null pointer.

constexpr int LANES = 16 / sizeof(REAL);

__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }
__device__ __forceinline__ long long magnitude(long long x) { return x < 0 ? -x : x; }
__device__ __forceinline__ bool magnitude(bool x) { return x; }

// max(x, low), NaN where x is NaN.
__device__ __forceinline__ REAL at_least(REAL x, REAL low) { return x < low ? low : x; }

// LANES elements of an input from element LANES i on.
template <class T>
__device__ __forceinline__ Pack<T, LANES> fetch(const In<T>& x, T number, long long step, long long i) {
    if (x && step) return load<LANES>(x, i);
    const T same = x ? static_cast<T>(x[0]) : number;
    Pack<T, LANES> pack;
    for (int k = 0; k < LANES; ++k) pack.at[k] = same;
    return pack;
}

// Array 0 is the output. f computes one element.
template <class R, class A, class B, class C, class F>
__device__ __forceinline__ void map(const Out<R>& y, const In<A>& a, A a_number, const In<B>& b,
                                    B b_number, const In<C>& c, C c_number, const Walk<4>& walk, F f) {
    const long long i = global_thread();
    if (walk.packed) {
        const long long packs = walk.size / LANES;
        if (i < packs) {
            const auto u = fetch(a, a_number, walk.strides[1][0], i);
            const auto v = fetch(b, b_number, walk.strides[2][0], i);
            const auto w = fetch(c, c_number, walk.strides[3][0], i);
            Pack<R, LANES> out;
            for (int k = 0; k < LANES; ++k) out.at[k] = f(u.at[k], v.at[k], w.at[k]);
            store<LANES>(y, i, out);
        } else if (const long long j = packs * LANES + (i - packs); j < walk.size) {
            y[j] = f(a ? static_cast<A>(a[j * walk.strides[1][0]]) : a_number,
                     b ? static_cast<B>(b[j * walk.strides[2][0]]) : b_number,
                     c ? static_cast<C>(c[j * walk.strides[3][0]]) : c_number);
        }
    } else if (i < walk.size) {
        long long places[4];
        walk.locate(i, places);
        y[places[0]] = f(a ? static_cast<A>(a[places[1]]) : a_number,
                         b ? static_cast<B>(b[places[2]]) : b_number,
                         c ? static_cast<C>(c[places[3]]) : c_number);
    }
}

#define MAP(name, R, A, B, C, expression)                                                          \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        name(Out<R> y, In<A> a, A a_number, In<B> b, B b_number, In<C> c, C c_number, REAL p,      \
             REAL q, Walk<4> walk) {                                                               \
        map<R, A, B, C>(y, a, a_number, b, b_number, c, c_number, walk, [p, q](A a, B b, C c) {    \
            (void)a, (void)b, (void)c, (void)p, (void)q;                                           \
            return static_cast<R>(expression);                                                     \
        });                                                                                        \
    }
#define FUNCTION(name, expression) MAP(name, REAL, REAL, REAL, REAL, expression)
#define COMPARISON(name, expression) MAP(name, bool, REAL, REAL, REAL, expression)

// ------------------------------------------------------------------------------ of every dtype
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

// ----------------------------------------------------------------------------------- of floats
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
FUNCTION(relu, a <= REAL(0) ? REAL(0) : a)
FUNCTION(relu_grad, b <= REAL(0) ? REAL(0) : a)
FUNCTION(leaky_relu, a > REAL(0) ? a : a * p)
FUNCTION(leaky_relu_grad, b > REAL(0) ? a : a * p)
FUNCTION(maximum, a >= b || a != a ? a : b)
FUNCTION(minimum, a <= b || a != a ? a : b)
FUNCTION(tie_weight, (REAL(a > b) + REAL(a >= b)) * REAL(0.5))
FUNCTION(clip, a < p ? p : a > q ? q : a)
FUNCTION(clip_grad, b >= p && b <= q ? a : REAL(0))
FUNCTION(cross_entropy,
         -b * at_least(log(a), REAL(-100)) - (REAL(1) - b) * at_least(log1p(-a), REAL(-100)))
#endif
