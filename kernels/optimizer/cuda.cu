// Optimizer steps over all parameters of a model in one launch.
//
// A Table, which travels by value, holds the addresses of every parameter, gradient and moment, and
// the first block of each: a block finds its parameter by bisection, and each of its threads takes 16
// bytes of it. The rules are those of `cpu.py`, number by number. All else that changes from step to
// step lies in `state` on the device, so that a step needs nothing from the host.

constexpr int THREADS = 256, LANES = 16 / sizeof(REAL);
constexpr int CAPACITY = 88, ARRAYS = 4;

struct Table {
    int count, unused;
    unsigned int first_block[CAPACITY];
    unsigned int sizes[CAPACITY];
    unsigned long long addresses[ARRAYS][CAPACITY];  // parameters, gradients, moments
};

// m += (1-b1)(g-m);  v = b2 v + (1-b2) g^2;  p -= rate m / (sqrt(v) / root + eps).
struct Adam {
    static constexpr int MOMENTS = 2;
    REAL shrink, couple, blend, keep, fresh, rate, root, eps;

    __device__ explicit Adam(const In<REAL>& n)
        : shrink(n[0]), couple(n[1]), blend(n[2]), keep(n[3]), fresh(n[4]), rate(n[5]), root(n[6]),
          eps(n[7]) {}
    __device__ void step(REAL& p, REAL g, REAL& m, REAL& v) const {
        const REAL gradient = g + couple * p;
        m = m + (gradient - m) * blend;
        v = v * keep + fresh * gradient * gradient;
        p = p * shrink - rate * m / (sqrt(v) / root + eps);
    }
};

// v = a v + (1-a) g^2;  p -= rate g / (sqrt(v) + eps).
struct RMSprop {
    static constexpr int MOMENTS = 1;
    REAL couple, keep, fresh, rate, eps;

    __device__ explicit RMSprop(const In<REAL>& n)
        : couple(n[0]), keep(n[1]), fresh(n[2]), rate(n[3]), eps(n[4]) {}
    __device__ void step(REAL& p, REAL g, REAL& v, REAL&) const {
        const REAL gradient = g + couple * p;
        v = v * keep + fresh * gradient * gradient;
        p -= rate * gradient / (sqrt(v) + eps);
    }
};

// p -= rate g.
struct SGD {
    static constexpr int MOMENTS = 0;
    REAL couple, rate;

    __device__ explicit SGD(const In<REAL>& n) : couple(n[0]), rate(n[1]) {}
    __device__ void step(REAL& p, REAL g, REAL&, REAL&) const { p -= rate * (g + couple * p); }
};

// m = momentum m + g;  p -= rate (ahead g + last m): Nesterov's looks one step ahead.
struct Momentum {
    static constexpr int MOMENTS = 1;
    REAL couple, rate, momentum, ahead, last;

    __device__ explicit Momentum(const In<REAL>& n)
        : couple(n[0]), rate(n[1]), momentum(n[2]), ahead(n[3]), last(n[4]) {}
    __device__ void step(REAL& p, REAL g, REAL& m, REAL&) const {
        const REAL gradient = g + couple * p;
        m = m * momentum + gradient;
        p -= rate * (ahead * gradient + last * m);
    }
};

template <class Rule> __device__ void walk(const Table& table, const In<REAL>& numbers) {
    int k = 0;
    for (int high = table.count; high - k > 1;) {  // the last k with first_block[k] <= blockIdx.x
        const int middle = (k + high) / 2;
        if (table.first_block[middle] <= blockIdx.x)
            k = middle;
        else
            high = middle;
    }
    const Rule rule(numbers);
    const long long pack = static_cast<long long>(blockIdx.x - table.first_block[k]) * THREADS + threadIdx.x;
    const long long size = table.sizes[k];
    if (pack * LANES >= size) return;
    const auto p = array_at<InOut<REAL>>(table.addresses[0][k]);
    const auto g = array_at<In<REAL>>(table.addresses[1][k]);
    const auto m = array_at<InOut<REAL>>(table.addresses[2][Rule::MOMENTS > 0 ? k : 0]);
    const auto v = array_at<InOut<REAL>>(table.addresses[3][Rule::MOMENTS > 1 ? k : 0]);
    unsigned long long all = table.addresses[0][k] | table.addresses[1][k];
    if (Rule::MOMENTS > 0) all |= table.addresses[2][k];
    if (Rule::MOMENTS > 1) all |= table.addresses[3][k];
    if ((pack + 1) * LANES <= size && all % 16 == 0) {
        Pack<REAL, LANES> ps = load<LANES>(p, pack), ms = {}, vs = {};
        const Pack<REAL, LANES> gs = load<LANES>(g, pack);
        if (Rule::MOMENTS > 0) ms = load<LANES>(m, pack);
        if (Rule::MOMENTS > 1) vs = load<LANES>(v, pack);
        for (int i = 0; i < LANES; ++i) rule.step(ps.at[i], gs.at[i], ms.at[i], vs.at[i]);
        store<LANES>(p, pack, ps);
        if (Rule::MOMENTS > 0) store<LANES>(m, pack, ms);
        if (Rule::MOMENTS > 1) store<LANES>(v, pack, vs);
        return;
    }
    for (long long i = pack * LANES; i < size && i < (pack + 1) * LANES; ++i) {
        REAL one = p[i], mean = 0, square = 0;
        if (Rule::MOMENTS > 0) mean = m[i];
        if (Rule::MOMENTS > 1) square = v[i];
        rule.step(one, g[i], mean, square);
        p[i] = one;
        if (Rule::MOMENTS > 0) m[i] = mean;
        if (Rule::MOMENTS > 1) v[i] = square;
    }
}

#define OPTIMIZER(name, Rule)                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS) name(Table table, In<REAL> numbers) { \
        walk<Rule>(table, numbers);                                                           \
    }
OPTIMIZER(adam, Adam)
OPTIMIZER(rmsprop, RMSprop)
OPTIMIZER(sgd, SGD)
OPTIMIZER(momentum, Momentum)

// What a rule multiplies by, from the state [lr, beta1^t, beta2^t] and the options, in float64 and
// rounded once. One thread; Adam's powers move on.
extern "C" __global__ void adam_numbers(InOut<double> state, Out<REAL> numbers, double beta1,
                                        double beta2, double eps, double weight_decay,
                                        long long decoupled) {
    const double lr = state[0], power1 = state[1] * beta1, power2 = state[2] * beta2;
    state[1] = power1;
    state[2] = power2;
    numbers[0] = static_cast<REAL>(decoupled ? 1 - lr * weight_decay : 1.0);
    numbers[1] = static_cast<REAL>(decoupled ? 0.0 : weight_decay);
    numbers[2] = static_cast<REAL>(1 - beta1);
    numbers[3] = static_cast<REAL>(beta2);
    numbers[4] = static_cast<REAL>(1 - beta2);
    numbers[5] = static_cast<REAL>(lr / (1 - power1));
    numbers[6] = static_cast<REAL>(sqrt(1 - power2));
    numbers[7] = static_cast<REAL>(eps);
}

extern "C" __global__ void rmsprop_numbers(In<double> state, Out<REAL> numbers, double alpha,
                                           double eps, double weight_decay) {
    numbers[0] = static_cast<REAL>(weight_decay);
    numbers[1] = static_cast<REAL>(alpha);
    numbers[2] = static_cast<REAL>(1 - alpha);
    numbers[3] = static_cast<REAL>(state[0]);
    numbers[4] = static_cast<REAL>(eps);
}

extern "C" __global__ void sgd_numbers(In<double> state, Out<REAL> numbers, double momentum,
                                       long long nesterov, double weight_decay) {
    numbers[0] = static_cast<REAL>(weight_decay);
    numbers[1] = static_cast<REAL>(state[0]);
    numbers[2] = static_cast<REAL>(momentum);
    numbers[3] = static_cast<REAL>(nesterov ? 1.0 : 0.0);
    numbers[4] = static_cast<REAL>(nesterov ? momentum : 1.0);
}
