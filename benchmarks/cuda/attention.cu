// Attention of narrow heads in exact float32, forward, for sm_90. What it computes is said in __init__.py.
//
// A warp takes 32 / SPLIT * ROWS queries: SPLIT lanes share out the keys of the same ROWS queries and merge at the end.
// Keys and values lie in shared memory column by column, where a read of 16 bytes gives four keys.
#include <cuda_pipeline.h>

#include "thread.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS;

// Keys and values first..first + TILE - 1, transposed. From `length` on, where memory may hold anything, the last real
// one stands instead: such a key's weight is zero, and so its product if the value is finite.
template <int WIDTH>
__device__ void copy_tile(float *keys, float *values, const Arguments &a, const Head &head, int first, int length) {
    constexpr int AT_ONCE = THREADS / WIDTH;  // a thread stays in its column
    const int column = threadIdx.x % WIDTH, row = threadIdx.x / WIDTH;
    const float *key = head.key + column, *value = head.value + column;
    if (row < AT_ONCE) {
#pragma unroll 1
        for (int k = row; k < TILE; k += AT_ONCE) {
            const int from = min(first + k, length - 1), to = column * COLUMN + k;
            __pipeline_memcpy_async(keys + to, step(key, from, a.key_step), sizeof(float));
            __pipeline_memcpy_async(values + to, step(value, from, a.value_step), sizeof(float));
        }
    }
    __pipeline_commit();
}

// With one block more on a multiprocessor, the registers left to a thread would not do: the inner loop would spill.
constexpr int blocks_at_once(int width) { return width <= 5 ? 4 : width <= 10 ? 3 : 2; }

// Volatile, so that what follows from it is computed again at the end and needs no register through the loop.
__device__ int thread_number() {
    int number;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
    return number;
}

template <int WIDTH, int SPLIT, bool DROPOUT>
__global__ void __launch_bounds__(THREADS, blocks_at_once(WIDTH)) forward(const __grid_constant__ Arguments a) {
    constexpr int APART = 32 / SPLIT, WARP_ROWS = APART * ROWS, BLOCK_ROWS = WARPS * WARP_ROWS, STEP = SPLIT * GROUP;
    __shared__ alignas(16) float tiles[2][2][WIDTH * COLUMN];  // (turn, key or value, column by column)
    const Head head = head_of(a, blockIdx.y, blockIdx.x);
    const int block_row = (gridDim.z - 1 - blockIdx.z) * BLOCK_ROWS;  // under a band the last rows take longest
    const int warp_row = block_row + threadIdx.x / 32 * WARP_ROWS;
    const int part = threadIdx.x % 32 / APART, first_row = warp_row + threadIdx.x % APART;
    const int block_keys = visible_keys(a, head, min(block_row + BLOCK_ROWS, a.num_queries) - 1);
    int warp_keys = visible_keys(a, head, min(warp_row + WARP_ROWS, a.num_queries) - 1);
    if (warp_row >= a.num_queries) warp_keys = 0;
    const uint64_t seed = DROPOUT ? *a.seed : 0;

    Row<WIDTH> rows[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) start(a, head, rows[r], first_row + r * APART);
    if (block_keys > 0) copy_tile<WIDTH>(tiles[0][0], tiles[0][1], a, head, 0, block_keys);
    for (int first = 0, turn = 0; first < block_keys; first += TILE, turn ^= 1) {
        __pipeline_wait_prior(0);
        __syncthreads();  // this tile is there, and no warp reads the other one any more
        if (first + TILE < block_keys)
            copy_tile<WIDTH>(tiles[turn ^ 1][0], tiles[turn ^ 1][1], a, head, first + TILE, block_keys);
        const int end = min(TILE, warp_keys - first);
#pragma unroll 1
        for (int k = 0; k < end; k += STEP) {
            const int mine = k + part * GROUP;
            const bool all_visible = first + k + STEP <= visible_keys(a, head, warp_row);
            attend<DROPOUT>(a, head, rows, tiles[turn][0] + mine, tiles[turn][1] + mine, first + mine, first_row, APART,
                            all_visible, seed);
        }
    }
    __syncwarp();
    UNROLL for (int distance = APART; distance < 32; distance *= 2) UNROLL for (int r = 0; r < ROWS; ++r) {
        Row<WIDTH> other;
        other.reference = __shfl_xor_sync(~0u, rows[r].reference, distance);
        other.total = __shfl_xor_sync(~0u, rows[r].total, distance);
        UNROLL for (int c = 0; c < WIDTH; ++c) other.sum[c] = __shfl_xor_sync(~0u, rows[r].sum[c], distance);
        merge(rows[r], other);
    }
    const int again = thread_number(), same_row = block_row + again / 32 * WARP_ROWS + again % APART;
    UNROLL for (int r = 0; r < ROWS; ++r) if (part == r) store(a, head, rows[r], same_row + r * APART);
}

template <int WIDTH, int SPLIT>
int launch(const Arguments &a, cudaStream_t stream) {
    constexpr int BLOCK_ROWS = THREADS / SPLIT * ROWS;
    const dim3 grid(a.heads, a.batch, (a.num_queries + BLOCK_ROWS - 1) / BLOCK_ROWS);
    if (a.seed) forward<WIDTH, SPLIT, true><<<grid, THREADS, 0, stream>>>(a);
    else forward<WIDTH, SPLIT, false><<<grid, THREADS, 0, stream>>>(a);
    return cudaGetLastError();
}

// The same per-thread code in plain loops, so that its numbers can be checked where there is no GPU.
template <int WIDTH, int SPLIT, bool DROPOUT>
void run_on_host(const Arguments &a) {
    alignas(16) float tile[2][WIDTH * COLUMN];
    for (int number = 0; number < a.batch * a.heads; ++number) {
        const Head head = head_of(a, number / a.heads, number % a.heads);
        for (int row = 0; row < a.num_queries; row += ROWS) {
            Row<WIDTH> parts[SPLIT][ROWS];
            for (auto &rows : parts) for (int r = 0; r < ROWS; ++r) start(a, head, rows[r], row + r);
            const int seen = visible_keys(a, head, min(row + ROWS, a.num_queries) - 1);
            for (int first = 0; first < seen; first += TILE) {
                for (int k = 0; k < TILE; ++k) for (int c = 0; c < WIDTH; ++c) {
                    const int from = min(first + k, seen - 1);
                    tile[0][c * COLUMN + k] = step(head.key, from, a.key_step)[c];
                    tile[1][c * COLUMN + k] = step(head.value, from, a.value_step)[c];
                }
                for (int k = 0; k < TILE; k += GROUP)
                    attend<DROPOUT>(a, head, parts[k / GROUP % SPLIT], tile[0] + k, tile[1] + k, first + k, row, 1,
                                    first + k + GROUP <= visible_keys(a, head, row), DROPOUT ? *a.seed : 0);
            }
            for (int part = 1; part < SPLIT; ++part)
                for (int r = 0; r < ROWS; ++r) merge(parts[0][r], parts[part][r]);
            for (int r = 0; r < ROWS; ++r) store(a, head, parts[0][r], row + r);
        }
    }
}

#define INSTANCES(USE) USE(5, 4) USE(5, 8) USE(8, 4) USE(8, 8) USE(10, 4) USE(10, 8) USE(16, 4) USE(16, 8)

extern "C" int attention_forward(const Arguments *a, int width, int split, void *stream) {
#define LAUNCH(W, S) if (width == W && split == S) return launch<W, S>(*a, cudaStream_t(stream));
    INSTANCES(LAUNCH)
    return cudaErrorInvalidValue;
}

extern "C" int attention_on_host(const Arguments *a, int width, int split) {
#define RUN(W, S) if (width == W && split == S) return a->seed ? run_on_host<W, S, true>(*a) : run_on_host<W, S, false>(*a), 0;
    INSTANCES(RUN)
    return cudaErrorInvalidValue;
}

extern "C" const char *error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }
