// Windows over images on a GPU: sums of them, and the adjoint, which gives each window's number to
// all of its pixels.
//
//   sum_pool   a thread per window adds up its pixels
//   sum_pool_grad     a thread per pixel adds up the windows that cover it: a gather, where a thread per
//              window would have to add to pixels that others add to as well
//
//      pixel i        0 1 2 3 4 5 6      windows of 3, 2 apart: i lies in those from
//      window 0       x x x              ceil((i - 2) / 2) to floor(i / 2), as far as they exist
//      window 1           x x x
//      window 2               x x x
//
// Threads are counted along the rows of what is written, so that a warp writes neighbours, and reads
// neighbours, or elements `stride` apart.

constexpr int THREADS = 256;

// An array of images: steps in elements.
struct Images {
    long long image, channel, row, column;
};
struct Windows {
    long long size;  // of what is written: (images, channels, height, width)
    long long channels, height, width;
    long long rows, columns;  // sum_pool_grad: how many windows there are
    long long kernel_height, kernel_width, down, across;
    Images x;
};

// i divided, and what is left of it.
__device__ __forceinline__ long long split(long long& i, long long by) {
    const long long whole = (i | by) >> 32 ? i / by  // a 64-bit division takes four times as long
                                           : static_cast<unsigned>(i) / static_cast<unsigned>(by);
    i -= whole * by;
    return whole;
}

// An element of what is written, and where its channel begins in what is read.
struct Pixel {
    long long row, column, start;
    __device__ __forceinline__ Pixel(const Windows& s, long long i) {
        const long long line = split(i, s.width);
        column = i;
        long long rest = line;
        const long long plane = split(rest, s.height);
        row = rest;
        rest = plane;
        const long long image = split(rest, s.channels);
        start = image * s.x.image + rest * s.x.channel;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS) sum_pool(Out<REAL> y, In<REAL> x, Windows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel at(s, i);
    const long long first = at.start + at.row * s.down * s.x.row + at.column * s.across * s.x.column;
    REAL total = 0;
    for (long long h = 0; h < s.kernel_height; ++h)
        for (long long v = 0; v < s.kernel_width; ++v) total += x[first + h * s.x.row + v * s.x.column];
    y[i] = total;
}

// The windows that cover pixel i: first to last.
__device__ __forceinline__ void covering(long long i, long long kernel, long long step, long long count,
                                         long long& first, long long& last) {
    long long before = i - kernel + step;  // ceil(a / b) = floor((a + b - 1) / b), for a = i - kernel + 1
    first = before > 0 ? split(before, step) : 0;
    last = split(i, step);
    if (last >= count) last = count - 1;
}

extern "C" __global__ void __launch_bounds__(THREADS) sum_pool_grad(Out<REAL> y, In<REAL> g, Windows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel at(s, i);
    long long top, bottom, left, right;
    covering(at.row, s.kernel_height, s.down, s.rows, top, bottom);
    covering(at.column, s.kernel_width, s.across, s.columns, left, right);
    REAL total = 0;
    for (long long a = bottom; a >= top; --a)
        for (long long b = right; b >= left; --b) total += g[at.start + a * s.x.row + b * s.x.column];
    y[i] = total;
}
