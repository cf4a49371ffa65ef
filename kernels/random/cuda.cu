// Counter-based random numbers on a GPU: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011).
//
// Computes: uniform, normal, Laplace and Bernoulli numbers, and permutations, from a seed, a stream
//     and the number of a block in the stream.
// Launch: one thread per Philox block of four 32-bit words, thread blocks of 128 threads. (Below, a
//     block is a Philox block.)
//
// The bits are those of every other device: the words are integers, and all other arithmetic is
// + - * / sqrt in float64, each rounded on its own (no fused multiply-add, no library function),
// with one rounding to REAL at the end. The polynomials are explained in cpu.py.
//
// Optimizations:
//   - no state: threads are independent
//   - vectorized access: a thread stores 16 bytes at a time

constexpr int NUMBERS = PACK_SIZE;  // of a block: each from one 32-bit word, or in float64 from two

struct Words {
    unsigned words[4];

    // Return the bits of number i: 32, or in float64 64, the low word first.
    __device__ unsigned long long bits(int i) const {
        if (sizeof(REAL) == 4) return words[i];
        return words[2 * i] | static_cast<unsigned long long>(words[2 * i + 1]) << 32;
    }
};

__device__ Words philox(unsigned long long block, unsigned long long stream,
                        unsigned long long seed) {
    unsigned c0 = static_cast<unsigned>(block), c1 = static_cast<unsigned>(block >> 32);
    unsigned c2 = static_cast<unsigned>(stream), c3 = static_cast<unsigned>(stream >> 32);
    unsigned k0 = static_cast<unsigned>(seed), k1 = static_cast<unsigned>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const unsigned p_high = __umulhi(0xD2511F53u, c0), p_low = 0xD2511F53u * c0;
        const unsigned q_high = __umulhi(0xCD9E8D57u, c2), q_low = 0xCD9E8D57u * c2;
        c0 = q_high ^ c1 ^ k0;
        c1 = q_low;
        c2 = p_high ^ c3 ^ k1;
        c3 = p_low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// ------------------------------------------------------------------ logarithm, sine and cosine
// Return c[0] + z c[1] + z^2 c[2] + ..., by Horner's rule.
template <int N> __device__ double polynomial(const double (&c)[N], double z) {
    double total = c[N - 1];
    for (int i = N - 2; i >= 0; --i) total = c[i] + z * total;
    return total;
}

// Return -log(u), u in (0, 1]: u = 2^e m, m nearest 1, and log m = 2 atanh((m - 1) / (m + 1)).
__device__ double negative_log(double u) {
    const double atanh[] = {2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11,
                            2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
    const long long bits = __double_as_longlong(u);
    const long long e = (bits - 0x3FE6A09E667F3BCDLL) >> 52;  // 0 from sqrt(1/2) to sqrt(2)
    const double m = __longlong_as_double(bits - e * (1LL << 52));
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    return -static_cast<double>(e) * 0.6931471805599453 -
           (2.0 * s + s * (z * polynomial(atanh, z)));
}

// Compute cos and sin of 2 pi t, t in [0, 1), from the nearest multiple of pi / 2 and the rest.
__device__ void cosine_sine(double t, double& cosine, double& sine) {
    const double sines[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800,
                            1.0 / 6227020800, -1.0 / 1307674368000};
    const double cosines[] = {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800,
                              1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000};
    const long long quadrant = static_cast<long long>(4.0 * t + 0.5);
    const double x = 6.283185307179586 * (t - 0.25 * static_cast<double>(quadrant)), z = x * x;
    const double c = 1.0 + z * polynomial(cosines, z), s = x + x * (z * polynomial(sines, z));
    const double a = quadrant & 1 ? s : c, b = quadrant & 1 ? c : s;
    cosine = (quadrant + 1) & 2 ? -a : a;
    sine = quadrant & 2 ? -b : b;
}

// --------------------------------------------------------------------------- distributions
// Thread i makes block position + i, of COUNT numbers. `convert` fills a Pack from the block's
// words.
template <int COUNT, class F>
__device__ void draw(const Out<REAL>& y, const In<long long>& position, const In<long long>& seed,
                     unsigned long long stream, long long size, F convert) {
    const long long block = global_thread();
    if (block * COUNT >= size) return;
    const Words words = philox(static_cast<unsigned long long>(position[0] + block), stream,
                               static_cast<unsigned long long>(seed[0]));
    Pack<REAL, NUMBERS> pack;
#pragma unroll
    for (int first = 0; first < COUNT; first += NUMBERS) {
        convert(words, first, pack);
        const long long offset = block * COUNT + first;
        if (offset + NUMBERS <= size) {
            store<NUMBERS>(y, offset / NUMBERS, pack);
        } else {
#pragma unroll
            for (int i = 0; i < NUMBERS; ++i)
                if (offset + i < size) y[offset + i] = pack.values[i];
        }
    }
}

// low + span u, u in [0, 1) of 24 or 53 bits. A result that is rounded up to `high` becomes `top`,
// the number just below it.
extern "C" __global__ void __launch_bounds__(128)
    uniform(Out<REAL> y, In<long long> position, In<long long> seed, long long stream,
            long long size, REAL low, REAL high, REAL span, REAL top) {
    const int shift = sizeof(REAL) == 4 ? 8 : 11;
    const REAL unit = static_cast<REAL>(sizeof(REAL) == 4 ? 0x1p-24 : 0x1p-53);
    draw<NUMBERS>(
        y, position, seed, stream, size, [=](const Words& words, int, Pack<REAL, NUMBERS>& pack) {
#pragma unroll
            for (int i = 0; i < NUMBERS; ++i) {
                const REAL x = low + span * (static_cast<REAL>(words.bits(i) >> shift) * unit);
                pack.values[i] = x < high ? x : top;
            }
        });
}

// Box and Muller (1958): two numbers, sqrt(-2 log u) times cos(2 pi t) and sin(2 pi t), from two
// words, u in (0, 1] and t in [0, 1).
extern "C" __global__ void __launch_bounds__(128)
    normal(Out<REAL> y, In<long long> position, In<long long> seed, long long stream,
           long long size) {
    const int shift = sizeof(REAL) == 4 ? 0 : 11;
    const double unit = sizeof(REAL) == 4 ? 0x1p-32 : 0x1p-53;
    draw<NUMBERS>(
        y, position, seed, stream, size, [=](const Words& words, int, Pack<REAL, NUMBERS>& pack) {
#pragma unroll
            for (int i = 0; i < NUMBERS; i += 2) {
                const double u = (static_cast<double>(words.bits(i) >> shift) + 1.0) * unit;
                const double radius = sqrt(2.0 * negative_log(u));
                double cosine, sine;
                cosine_sine(static_cast<double>(words.bits(i + 1) >> shift) * unit, cosine, sine);
                pack.values[i] = static_cast<REAL>(radius * cosine);
                pack.values[i + 1] = static_cast<REAL>(radius * sine);
            }
        });
}

// -log u, u in (0, 1] of 31 or 53 bits; the lowest bit of the word is the sign.
extern "C" __global__ void __launch_bounds__(128)
    laplace(Out<REAL> y, In<long long> position, In<long long> seed, long long stream,
            long long size) {
    const int shift = sizeof(REAL) == 4 ? 1 : 11;
    const double unit = sizeof(REAL) == 4 ? 0x1p-31 : 0x1p-53;
    draw<NUMBERS>(
        y, position, seed, stream, size, [=](const Words& words, int, Pack<REAL, NUMBERS>& pack) {
#pragma unroll
            for (int i = 0; i < NUMBERS; ++i) {
                const unsigned long long word = words.bits(i);
                const double x = negative_log((static_cast<double>(word >> shift) + 1.0) * unit);
                pack.values[i] = static_cast<REAL>(word & 1 ? -x : x);
            }
        });
}

// 1 where the 32-bit word is less than `below`, else 0: four numbers per block, in either dtype.
extern "C" __global__ void __launch_bounds__(128)
    bernoulli(Out<REAL> y, In<long long> position, In<long long> seed, long long stream,
              long long size, long long below) {
    draw<4>(y, position, seed, stream, size,
            [=](const Words& words, int first, Pack<REAL, NUMBERS>& pack) {
#pragma unroll
                for (int i = 0; i < NUMBERS; ++i)
                    pack.values[i] =
                        static_cast<long long>(words.words[first + i]) < below ? REAL(1) : REAL(0);
            });
}

// -------------------------------------------------------------------- kernels of one thread
// The Fisher-Yates shuffle from the front (Durstenfeld 1964): i goes to position j <= i, and the
// element there goes to i. Each step needs the one before, so one thread does them all.
extern "C" __global__ void permutation(InOut<long long> y, In<long long> position,
                                       In<long long> seed, long long stream, long long size) {
    Words words = {};
    for (long long i = 0; i < size; ++i) {
        if (i % 4 == 0)
            words = philox(static_cast<unsigned long long>(position[0] + i / 4), stream,
                           static_cast<unsigned long long>(seed[0]));
        const unsigned long long product =
            words.words[i % 4] * static_cast<unsigned long long>(i + 1);
        const long long j = static_cast<long long>(product >> 32);
        if (j != i) y[i] = y[j];
        y[j] = i;
    }
}

extern "C" __global__ void advance(InOut<long long> position, long long count) {
    position[0] += count;
}

extern "C" __global__ void reseed(Out<long long> position, Out<long long> seed,
                                  long long to_position, long long to_seed) {
    position[0] = to_position;
    seed[0] = to_seed;
}
