// Tensor cores: a matrix product of one warp, as one instruction, from compute capability 8.0 on.
//
//     mma_sync(c0 ... c3, a0 ... a3, b0, b1)     C (16 x 8, float32) += A (16 x 8) @ B (8 x 8)
//
// TF32 has the exponent of float32 and 10 of its 23 stored bits of significand. `to_tf32` rounds to
// nearest, ties away from zero (PTX cvt.rna.tf32.f32); an operand of the type Tf32 has been
// rounded. A product of two such numbers has at most 22 bits: in float32 it is exact. PTX does not
// say in which order, and with which rounding, the instruction adds the eight products to c ("at
// least single precision").
//
// Each lane of the warp holds a part of the matrices, its fragments (PTX ISA, "Matrix Fragments for
// mma.m16n8k8"). With g = lane / 4 and t = lane % 4:
//
//                              B   column g
//                                 +----------+
//                     row t       | b0       |
//                     row t + 4   | b1       |
//          column t  column t + 4 +----------+
//     A   +---------+-----------+     C   column 2t  column 2t + 1
//     g   |   a0    |    a2     |    g   |    c0    |     c1     |
//   g + 8 |   a1    |    a3     |  g + 8 |    c2    |     c3     |
//         +---------+-----------+        +----------+------------+
//
// All 32 lanes execute the instruction together. The emulator adds the products in the order of k,
// each by a fused multiply-add, and stops with an error where a lane of the warp is missing.

struct Tf32 {
    unsigned bits;  // of a float; its last 13 bits are ignored
};

#ifdef EMULATOR
__device__ __forceinline__ Tf32 to_tf32(float x) {
    // Half a unit is added to the magnitude, which may carry into the exponent, up to infinity.
    const unsigned bits = __float_as_uint(x), magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {0x7fffffffu};  // NaN
    return {(bits + 0x1000u) & 0xffffe000u};
}

namespace emulator {
// The fragments of A and B by thread. There are two sets for alternate instructions: a lane writes
// to the other set while other lanes still read this one, and all have read it before any lane can
// pass the barrier of the next instruction.
static unsigned fragments[2][MAX_THREADS_PER_BLOCK][6];
static unsigned char set_in_use[MAX_THREADS_PER_BLOCK];

// The tables above belong to the emulator, so accesses to them are not those of a kernel.
__attribute__((noinline, no_sanitize("thread", "bounds"))) inline void mma_m16n8k8(
    float* c0, float* c1, float* c2, float* c3, const unsigned* own) {
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int lane = lane_id(), g = lane / 4, t = lane % 4;
    const int threads = blockDim.x * blockDim.y * blockDim.z;
    if (thread - lane + 32 > threads) stop(__LINE__, "mma_sync takes all 32 lanes of a warp");
    auto& set = fragments[set_in_use[thread] ^= 1];
    for (int i = 0; i < 6; ++i) set[thread][i] = own[i] & 0xffffe000u;  // The rest is not read.
    shuffle(0xffffffffu, 0, lane);  // a barrier that does not order memory accesses
    const auto* warp = set + (thread - lane);
    float* c[2][2] = {{c0, c1}, {c2, c3}};
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j)
            for (int k = 0; k < 8; ++k) {
                const float a = __uint_as_float(warp[g * 4 + k % 4][k / 4 * 2 + i]);
                const float b = __uint_as_float(warp[(2 * t + j) * 4 + k % 4][4 + k / 4]);
                *c[i][j] = std::fma(a, b, *c[i][j]);
            }
}
}  // namespace emulator
#else
__device__ __forceinline__ Tf32 to_tf32(float x) {
    Tf32 y;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y.bits) : "f"(x));
#else
    y.bits = __float_as_uint(x);
    __trap();
#endif
    return y;
}
#endif

// Add the product of A and B to C, whose fragments are those above.
__device__ __forceinline__ void mma_sync(float& c0, float& c1, float& c2, float& c3, Tf32 a0,
                                         Tf32 a1, Tf32 a2, Tf32 a3, Tf32 b0, Tf32 b1) {
#ifdef EMULATOR
    const unsigned own[6] = {a0.bits, a1.bits, a2.bits, a3.bits, b0.bits, b1.bits};
    emulator::mma_m16n8k8(&c0, &c1, &c2, &c3, own);
#elif __CUDA_ARCH__ >= 800
    // volatile: the compiler must not move it to where some lanes do not go.
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
        " {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
        : "r"(a0.bits), "r"(a1.bits), "r"(a2.bits), "r"(a3.bits), "r"(b0.bits), "r"(b1.bits));
#else
    __trap();  // The host launches no such kernel on a GPU before 8.0.
#endif
}
