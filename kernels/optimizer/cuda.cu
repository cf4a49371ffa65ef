// Optimizer updates on a GPU, over all parameters of a model in one launch.
//
// Computes: Adam, AdamW, RMSprop, SGD with and without momentum, in place. The rules are those of
//     cpu.py, operation by operation.
// Launch: first one thread, which computes the rule's coefficients; then blocks of 256 threads,
//     each for 256 * 16 bytes of one parameter.
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
//   - global memory coalescing, vectorized access of 16 bytes per thread

constexpr int THREADS = 256;
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
    const long long pack =
        static_cast<long long>(blockIdx.x - table.first_block[k]) * THREADS + threadIdx.x;
    const long long size = table.sizes[k];
    if (pack * PACK_SIZE >= size) return;
    const auto p = array_at<InOut<REAL>>(table.addresses[0][k]);
    const auto g = array_at<In<REAL>>(table.addresses[1][k]);
    const auto m = array_at<InOut<REAL>>(table.addresses[2][Rule::MOMENTS > 0 ? k : 0]);
    const auto v = array_at<InOut<REAL>>(table.addresses[3][Rule::MOMENTS > 1 ? k : 0]);
    unsigned long long address_bits = table.addresses[0][k] | table.addresses[1][k];
    if (Rule::MOMENTS > 0) address_bits |= table.addresses[2][k];
    if (Rule::MOMENTS > 1) address_bits |= table.addresses[3][k];
    if ((pack + 1) * PACK_SIZE <= size && address_bits % 16 == 0) {
        Pack<REAL, PACK_SIZE> ps = load<PACK_SIZE>(p, pack), ms = {}, vs = {};
        const Pack<REAL, PACK_SIZE> gs = load<PACK_SIZE>(g, pack);
        if (Rule::MOMENTS > 0) ms = load<PACK_SIZE>(m, pack);
        if (Rule::MOMENTS > 1) vs = load<PACK_SIZE>(v, pack);
        for (int i = 0; i < PACK_SIZE; ++i)
            rule.step(ps.values[i], gs.values[i], ms.values[i], vs.values[i]);
        store<PACK_SIZE>(p, pack, ps);
        if (Rule::MOMENTS > 0) store<PACK_SIZE>(m, pack, ms);
        if (Rule::MOMENTS > 1) store<PACK_SIZE>(v, pack, vs);
        return;
    }
    for (long long i = pack * PACK_SIZE; i < size && i < (pack + 1) * PACK_SIZE; ++i) {
        REAL parameter = p[i], mean = 0, square = 0;
        if (Rule::MOMENTS > 0) mean = m[i];
        if (Rule::MOMENTS > 1) square = v[i];
        rule.step(parameter, g[i], mean, square);
        p[i] = parameter;
        if (Rule::MOMENTS > 0) m[i] = mean;
        if (Rule::MOMENTS > 1) v[i] = square;
    }
}

#define OPTIMIZER(name, Rule)                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
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
