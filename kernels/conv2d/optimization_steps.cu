// A convolution on a GPU, one optimization step at a time, from the direct kernel to the one of
// cuda.cu. All arrays are contiguous.
//
// Computes: y[n, o, a, b] = sum over (c, h, v) of w[o, c, h, v] *
//     x[n, c, a * stride_down + h - padding_down, b * stride_across + v - padding_across], with
//     zeros around x.
//
// Every step adds the products of an element in the same order, each by a fused multiply-add, so
// all steps have the same bits. A position (n, a, b) is a place of the kernel in an image;
// k = (c, h, v) is a weight's index.

struct Sizes {
    long long images, channels, height, width;  // of x
    long long outputs, kernel_height, kernel_width;
    long long rows, columns;  // of y
    long long stride_down, stride_across, padding_down, padding_across;
};

// Position i: its image, and the pixel under weight (0, 0).
struct Position {
    long long image, row, column;
    __device__ Position(const Sizes& s, long long i) {
        column = i % s.columns * s.stride_across - s.padding_across;
        row = i / s.columns % s.rows * s.stride_down - s.padding_down;
        image = i / s.columns / s.rows;
    }
    // Return the pixel under weight (c, h, v), 0 outside the image.
    __device__ REAL pixel(const In<REAL>& x, const Sizes& s, long long c, long long h,
                          long long v) const {
        const long long i = row + h, j = column + v;
        if (i < 0 || i >= s.height || j < 0 || j >= s.width) return REAL(0);
        return x[((image * s.channels + c) * s.height + i) * s.width + j];
    }
};

// 1. Direct. One thread per element of y, numbered along its rows: the threads of a warp read
// adjacent elements of x, and the same weight. But every multiply-add takes two reads of global
// memory, and x is read once for each output channel and each weight. Launch: blocks of 256
// threads.
extern "C" __global__ void direct(In<REAL> x, In<REAL> w, Out<REAL> y, Sizes s) {
    const long long i = global_thread(), area = s.rows * s.columns;
    if (i >= s.images * s.outputs * area) return;
    const long long o = i / area % s.outputs;
    const Position position(s, i / area / s.outputs * area + i % area);
    REAL sum = 0;
    long long k = o * s.channels * s.kernel_height * s.kernel_width;
    for (long long c = 0; c < s.channels; ++c)
        for (long long h = 0; h < s.kernel_height; ++h)
            for (long long v = 0; v < s.kernel_width; ++v)
                sum = fma(position.pixel(x, s, c, h, v), w[k++], sum);
    y[i] = sum;
}

// 2. im2col. The pixels under each weight are written to a matrix, (weights, positions) for
// each image; then a convolution is one matrix product per image, for which a fast kernel exists.
// But the matrix is larger than x by the number of weights that use a pixel (9 for 3 x 3 with
// stride 1, 4 for 4 x 4 with stride 2), and it is written to global memory and read again. Launch:
// one thread per element of the matrix.
extern "C" __global__ void im2col(In<REAL> x, Out<REAL> columns, Sizes s) {
    const long long i = global_thread(), area = s.rows * s.columns;
    const long long depth = s.channels * s.kernel_height * s.kernel_width;
    if (i >= s.images * depth * area) return;
    const long long k = i / area % depth;
    const Position position(s, i / area / depth * area + i % area);
    columns[i] = position.pixel(x, s, k / s.kernel_width / s.kernel_height,
                                k / s.kernel_width % s.kernel_height, k % s.kernel_width);
}

// 3. Implicit GEMM with shared-memory tiling. It is the same product without storing the matrix: a
// block reads its tile of it, 16 weights by 16 positions, from the image into shared memory, and 16
// weights of 16 output channels of w. Each is then used 16 times. The cost: the address of every
// element takes divisions.
// Launch: one block of 16 x 16 threads per 16 positions and 16 output channels.
extern "C" __global__ void __launch_bounds__(256, 4)
    implicit_gemm(In<REAL> x, In<REAL> w, Out<REAL> y, Sizes s) {
    SHARED(REAL, tile_x, 16 * 16);
    SHARED(REAL, tile_w, 16 * 17);  // padded: threads write 16 weights side by side, and read down
    const int i = threadIdx.x, j = threadIdx.y;
    const long long area = s.rows * s.columns, positions = s.images * area;
    const long long depth = s.channels * s.kernel_height * s.kernel_width;
    const long long index = blockIdx.x * 16LL + i, first = blockIdx.y * 16LL;
    const Position position(s, index);
    REAL sum = 0;
    for (long long p = 0; p < depth; p += 16) {
        const long long k = p + j;
        tile_x[j * 16 + i] =
            index < positions && k < depth
                ? position.pixel(x, s, k / s.kernel_width / s.kernel_height,
                                 k / s.kernel_width % s.kernel_height, k % s.kernel_width)
                : REAL(0);
        tile_w[j * 17 + i] =
            first + j < s.outputs && p + i < depth
                ? static_cast<REAL>(w[(first + j) * depth + p + i])
                : REAL(0);
        __syncthreads();  // the tiles are complete
#pragma unroll
        for (int q = 0; q < 16; ++q) sum = fma(tile_x[q * 16 + i], tile_w[j * 17 + q], sum);
        __syncthreads();  // the tiles may be overwritten
    }
    const long long o = first + j;
    if (index < positions && o < s.outputs)
        y[(index / area * s.outputs + o) * area + index % area] = sum;
}

// 4. Additive addressing, 2D register blocking, double buffering: `forward_64` of cuda.cu. An
// element's address is the sum of a term of its position and a term of its weight index, each
// computed once for a row or a column of the tile. As in the last steps of matmul, a thread
// computes 4 x 4 elements of y, and the next slice is loaded while one is used.
