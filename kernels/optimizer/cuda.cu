// Optimizer updates on a GPU, over all parameters of a model in one launch.
//
// Computes: Adam, AdamW, RMSprop, SGD with and without momentum, in place. The rules are those of
//     cpu.py, operation by operation.
// Launch: first one thread, which computes the rule's coefficients; then blocks of 64 threads, each
//     for 64 * 4 Packs of 16 bytes of one parameter.
//
// Table of parameters. A Table, passed by value, holds the addresses of all parameters, gradients
// and moments, and the first block of each parameter: a block finds its parameter by bisection.
//
// State on the device. The values that change from step to step (the learning rate, the powers of
// beta) are in `state` on the GPU, so a step needs nothing from the host, and a captured step can
// be replayed.
//
// Optimizations:
//   - kernel fusion: each number is read and written once, and one launch serves all parameters
//   - global memory coalescing, vectorized access of 16 bytes per thread, several loads in flight

constexpr int THREADS = 64, PACKS = 4;  // of a block and of a thread
constexpr unsigned BLOCK_ELEMENTS = THREADS * PACKS * PACK_SIZE;
constexpr int CAPACITY = 88, ARRAYS = 4;

struct Table {
    int count, unused;
    unsigned int first_block[CAPACITY];
    unsigned int sizes[CAPACITY];
    unsigned long long addresses[ARRAYS][CAPACITY];  // parameters, gradients, moments
};

// m += (1-b1)(g-m);  v = b2 v + (1-b2) g^2;  p -= lr m / (sqrt(v) / root + eps). The coefficients
// are in the order of the members; decay_factor is that of decoupled weight decay.
struct Adam {
    static constexpr int MOMENTS = 2;
    REAL decay_factor, weight_decay, one_minus_beta1, beta2, one_minus_beta2, lr, root, eps;

    __device__ explicit Adam(const In<REAL>& n)
        : decay_factor(n[0]), weight_decay(n[1]), one_minus_beta1(n[2]), beta2(n[3]),
          one_minus_beta2(n[4]), lr(n[5]), root(n[6]), eps(n[7]) {}
    __device__ void step(REAL& p, REAL g, REAL& m, REAL& v) const {
        const REAL gradient = g + weight_decay * p;
        m = m + (gradient - m) * one_minus_beta1;
        v = v * beta2 + one_minus_beta2 * gradient * gradient;
        p = p * decay_factor - lr * m / (sqrt(v) / root + eps);
    }
};

// v = alpha v + (1-alpha) g^2;  p -= lr g / (sqrt(v) + eps).
struct RMSprop {
    static constexpr int MOMENTS = 1;
    REAL weight_decay, alpha, one_minus_alpha, lr, eps;

    __device__ explicit RMSprop(const In<REAL>& n)
        : weight_decay(n[0]), alpha(n[1]), one_minus_alpha(n[2]), lr(n[3]), eps(n[4]) {}
    __device__ void step(REAL& p, REAL g, REAL& v, REAL&) const {
        const REAL gradient = g + weight_decay * p;
        v = v * alpha + one_minus_alpha * gradient * gradient;
        p -= lr * gradient / (sqrt(v) + eps);
    }
};

// p -= lr g.
struct SGD {
    static constexpr int MOMENTS = 0;
    REAL weight_decay, lr;

    __device__ explicit SGD(const In<REAL>& n) : weight_decay(n[0]), lr(n[1]) {}
    __device__ void step(REAL& p, REAL g, REAL&, REAL&) const {
        p -= lr * (g + weight_decay * p);
    }
};

// m = momentum m + g;  p -= lr (g_factor g + m_factor m), the factors being 0 and 1, or with
// Nesterov's method 1 and momentum.
struct Momentum {
    static constexpr int MOMENTS = 1;
    REAL weight_decay, lr, momentum, g_factor, m_factor;

    __device__ explicit Momentum(const In<REAL>& n)
        : weight_decay(n[0]), lr(n[1]), momentum(n[2]), g_factor(n[3]), m_factor(n[4]) {}
    __device__ void step(REAL& p, REAL g, REAL& m, REAL&) const {
        const REAL gradient = g + weight_decay * p;
        m = m * momentum + gradient;
        p -= lr * (g_factor * gradient + m_factor * m);
    }
};

// Pointers to one parameter, its gradient and its moments.
struct Parameter {
    InOut<REAL> p;
    In<REAL> g;
    InOut<REAL> m, v;
};

// Update the Packs first, first + THREADS, ..., of which `count` exist.
template <bool ALL_EXIST, class Rule>
__device__ __forceinline__ void update_packs(const Rule& rule, const Parameter& x, unsigned first,
                                             unsigned count) {
    Pack<REAL, PACK_SIZE> ps[PACKS], gs[PACKS], ms[PACKS], vs[PACKS];
#pragma unroll
    for (unsigned j = 0; j < PACKS; ++j) {
        if (!ALL_EXIST && j >= count) break;
        const long long pack = static_cast<long long>(first) + j * THREADS;
        ps[j] = load<PACK_SIZE>(x.p, pack);
        gs[j] = load<PACK_SIZE>(x.g, pack);
        if (Rule::MOMENTS > 0) ms[j] = load<PACK_SIZE>(x.m, pack);
        if (Rule::MOMENTS > 1) vs[j] = load<PACK_SIZE>(x.v, pack);
    }
#pragma unroll
    for (unsigned j = 0; j < PACKS; ++j) {
        if (!ALL_EXIST && j >= count) break;
        const long long pack = static_cast<long long>(first) + j * THREADS;
#pragma unroll
        for (int l = 0; l < PACK_SIZE; ++l)
            rule.step(ps[j].values[l], gs[j].values[l], ms[j].values[l], vs[j].values[l]);
        store<PACK_SIZE>(x.p, pack, ps[j]);
        if (Rule::MOMENTS > 0) store<PACK_SIZE>(x.m, pack, ms[j]);
        if (Rule::MOMENTS > 1) store<PACK_SIZE>(x.v, pack, vs[j]);
    }
}

// Update the elements begin, begin + THREADS, ... before `end`.
template <class Rule>
__device__ __forceinline__ void update_elements(const Rule& rule, const Parameter& x,
                                                unsigned begin, unsigned end) {
    for (unsigned i = begin; i < end; i += THREADS) {
        REAL parameter = x.p[i], mean = 0, square = 0;
        if (Rule::MOMENTS > 0) mean = x.m[i];
        if (Rule::MOMENTS > 1) square = x.v[i];
        rule.step(parameter, x.g[i], mean, square);
        x.p[i] = parameter;
        if (Rule::MOMENTS > 0) x.m[i] = mean;
        if (Rule::MOMENTS > 1) x.v[i] = square;
    }
}

// Update the block's part of its parameter.
template <class Rule> __device__ void update(const Table& table, const In<REAL>& coefficients) {
    int k = 0;
    for (int high = table.count; high - k > 1;) {  // the last k with first_block[k] <= blockIdx.x
        const int middle = (k + high) / 2;
        if (table.first_block[middle] <= blockIdx.x)
            k = middle;
        else
            high = middle;
    }
    const Rule rule(coefficients);
    const Parameter x{array_at<InOut<REAL>>(table.addresses[0][k]),
                      array_at<In<REAL>>(table.addresses[1][k]),
                      array_at<InOut<REAL>>(table.addresses[2][Rule::MOMENTS > 0 ? k : 0]),
                      array_at<InOut<REAL>>(table.addresses[3][Rule::MOMENTS > 1 ? k : 0])};
    unsigned long long address_bits = table.addresses[0][k] | table.addresses[1][k];
    if (Rule::MOMENTS > 0) address_bits |= table.addresses[2][k];
    if (Rule::MOMENTS > 1) address_bits |= table.addresses[3][k];
    const unsigned size = table.sizes[k];
    const unsigned begin = (blockIdx.x - table.first_block[k]) * BLOCK_ELEMENTS;
    if (address_bits % 16) {
        update_elements(rule, x, begin + threadIdx.x, min(begin + BLOCK_ELEMENTS, size));
        return;
    }
    const unsigned first = begin / PACK_SIZE + threadIdx.x, packs = size / PACK_SIZE;
    if (begin + BLOCK_ELEMENTS <= size) {
        update_packs<true>(rule, x, first, PACKS);
    } else {
        if (first < packs) update_packs<false>(rule, x, first, (packs - first - 1) / THREADS + 1);
        update_elements(rule, x, packs * PACK_SIZE + threadIdx.x, size);
    }
}

#define OPTIMIZER(name, Rule)                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, 8)                                       \
        name(Table table, In<REAL> coefficients) {                                                \
        update<Rule>(table, coefficients);                                                        \
    }
OPTIMIZER(adam, Adam)
OPTIMIZER(rmsprop, RMSprop)
OPTIMIZER(sgd, SGD)
OPTIMIZER(momentum, Momentum)

// Compute a rule's coefficients from the state [lr, beta1^t, beta2^t] (or [lr]) and the options, in
// float64 by one thread, rounded once. Adam's kernel also advances the powers of beta.
extern "C" __global__ void adam_coefficients(InOut<double> state, Out<REAL> coefficients,
                                             double beta1, double beta2, double eps,
                                             double weight_decay, long long decoupled) {
    const double lr = state[0], power1 = state[1] * beta1, power2 = state[2] * beta2;
    state[1] = power1;
    state[2] = power2;
    coefficients[0] = static_cast<REAL>(decoupled ? 1 - lr * weight_decay : 1.0);
    coefficients[1] = static_cast<REAL>(decoupled ? 0.0 : weight_decay);
    coefficients[2] = static_cast<REAL>(1 - beta1);
    coefficients[3] = static_cast<REAL>(beta2);
    coefficients[4] = static_cast<REAL>(1 - beta2);
    coefficients[5] = static_cast<REAL>(lr / (1 - power1));
    coefficients[6] = static_cast<REAL>(sqrt(1 - power2));
    coefficients[7] = static_cast<REAL>(eps);
}

extern "C" __global__ void rmsprop_coefficients(In<double> state, Out<REAL> coefficients,
                                                double alpha, double eps, double weight_decay) {
    coefficients[0] = static_cast<REAL>(weight_decay);
    coefficients[1] = static_cast<REAL>(alpha);
    coefficients[2] = static_cast<REAL>(1 - alpha);
    coefficients[3] = static_cast<REAL>(state[0]);
    coefficients[4] = static_cast<REAL>(eps);
}

extern "C" __global__ void sgd_coefficients(In<double> state, Out<REAL> coefficients,
                                            double momentum, long long nesterov,
                                            double weight_decay) {
    coefficients[0] = static_cast<REAL>(weight_decay);
    coefficients[1] = static_cast<REAL>(state[0]);
    coefficients[2] = static_cast<REAL>(momentum);
    coefficients[3] = static_cast<REAL>(nesterov ? 1.0 : 0.0);
    coefficients[4] = static_cast<REAL>(nesterov ? momentum : 1.0);
}
