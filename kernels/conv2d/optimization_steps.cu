// A convolution forward on a GPU, one idea a rung: y[n, o, a, b], a sum over the taps (c, h, v) of
// x[n, c, a * down + h - padding_down, b * across + v - padding_across] * w[o, c, h, v], and zeros
// around x. All arrays are contiguous.
//
// Every rung takes the taps in the same order and a multiply-add for each, so all have the same bits.

struct Sizes {
    long long images, channels, height, width;  // of x
    long long outputs, kernel_height, kernel_width;
    long long rows, columns;  // of y
    long long down, across, padding_down, padding_across;
};

// Where the kernel is put for place i of (n, a, b): the image, and the pixel under tap (0, 0).
struct Place {
    long long image, row, column;
    __device__ Place(const Sizes& s, long long i) {
        column = i % s.columns * s.across - s.padding_across;
        row = i / s.columns % s.rows * s.down - s.padding_down;
        image = i / s.columns / s.rows;
    }
    __device__ REAL under(const In<REAL>& x, const Sizes& s, long long c, long long h, long long v) const {
        const long long i = row + h, j = column + v;
        if (i < 0 || i >= s.height || j < 0 || j >= s.width) return REAL(0);
        return x[((image * s.channels + c) * s.height + i) * s.width + j];
    }
};

// 1. direct. A thread per element of y, counted along its rows: neighbours read neighbours of x, and
// share the tap. But every multiply-add takes two reads of memory, and x is read once for each output
// channel and each tap.
extern "C" __global__ void direct(In<REAL> x, In<REAL> w, Out<REAL> y, Sizes s) {
    const long long i = global_thread(), area = s.rows * s.columns;
    if (i >= s.images * s.outputs * area) return;
    const long long o = i / area % s.outputs;
    const Place at(s, i / area / s.outputs * area + i % area);
    REAL sum = 0;
    long long tap = o * s.channels * s.kernel_height * s.kernel_width;
    for (long long c = 0; c < s.channels; ++c)
        for (long long h = 0; h < s.kernel_height; ++h)
            for (long long v = 0; v < s.kernel_width; ++v)
                sum = fma(at.under(x, s, c, h, v), w[tap++], sum);
    y[i] = sum;
}

// 2. im2col. What lies under each tap is written out as a matrix, (taps, places) for each image, and then
// a convolution is one product per image, for which a fast kernel exists. But the matrix is larger than x by
// the number of taps that use a pixel (9 for 3 x 3 with stride 1, 4 for 4 x 4 with stride 2), and it is
// written, and read again.
extern "C" __global__ void im2col(In<REAL> x, Out<REAL> columns, Sizes s) {
    const long long i = global_thread(), area = s.rows * s.columns;
    const long long taps = s.channels * s.kernel_height * s.kernel_width;
    if (i >= s.images * taps * area) return;
    const long long tap = i / area % taps;
    const Place at(s, i / area / taps * area + i % area);
    columns[i] = at.under(x, s, tap / s.kernel_width / s.kernel_height,
                          tap / s.kernel_width % s.kernel_height, tap % s.kernel_width);
}

// 3. implicit tiles. The same product, but the matrix exists nowhere: a block takes its tile of it
// straight out of the image into shared memory, 16 taps of 16 places, and 16 taps of 16 channels of w.
// Each is then used 16 times. What it costs: every element of the tile must find out where it lies,
// with divisions, for itself.
extern "C" __global__ void __launch_bounds__(256, 4)
    implicit_tiles(In<REAL> x, In<REAL> w, Out<REAL> y, Sizes s) {
    SHARED(REAL, tile_x, 16 * 16);
    SHARED(REAL, tile_w, 16 * 17);  // a column more: threads write 16 taps side by side, and read down
    const int i = threadIdx.x, j = threadIdx.y;
    const long long area = s.rows * s.columns, places = s.images * area;
    const long long taps = s.channels * s.kernel_height * s.kernel_width;
    const long long place = blockIdx.x * 16LL + i, first = blockIdx.y * 16LL;
    const Place at(s, place);
    REAL sum = 0;
    for (long long p = 0; p < taps; p += 16) {
        const long long tap = p + j;
        tile_x[j * 16 + i] = place < places && tap < taps
                                 ? at.under(x, s, tap / s.kernel_width / s.kernel_height,
                                            tap / s.kernel_width % s.kernel_height, tap % s.kernel_width)
                                 : REAL(0);
        tile_w[j * 17 + i] =
            first + j < s.outputs && p + i < taps ? static_cast<REAL>(w[(first + j) * taps + p + i]) : REAL(0);
        __syncthreads();  // the tiles are whole
#pragma unroll
        for (int q = 0; q < 16; ++q) sum = fma(tile_x[q * 16 + i], tile_w[j * 17 + q], sum);
        __syncthreads();  // all have used them
    }
    const long long o = first + j;
    if (place < places && o < s.outputs) y[(place / area * s.outputs + o) * area + place % area] = sum;
}

// 4. additive: `places_64` of cuda.cu. Where an element lies is a sum of what its place and what its tap say, each
// of which is found once for a row or a column of the tile. And as in the last rungs of matmul, a
// thread makes 4 x 4 elements of y, and the next slice is on its way while one is used.
