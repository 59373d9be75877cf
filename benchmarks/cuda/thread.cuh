// What one thread of attention.cu does: ROWS queries of a head against groups of GROUP keys.
#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#define PER_THREAD __host__ __device__ __forceinline__  // also runs on the host, where tests reach it without a GPU
#define UNROLL _Pragma("unroll")

constexpr int ROWS = 4;        // with fewer, reads of shared memory (4 cycles for 16 bytes a lane) would take longest
constexpr int GROUP = 8;       // the keys that one call of Philox serves
constexpr int TILE = 128;      // keys in shared memory at a time; twice, as the next ones are copied meanwhile
constexpr int COLUMN = TILE + 4;  // so far apart, the transposing copy meets few bank conflicts
constexpr float LOWEST = -1e30f;  // the reference of a query that sees nothing: with infinity, differences would be NaN
constexpr float LIMIT = 0x1p40f;  // weights may grow to this before their reference is raised

struct Arguments {  // the same as in attention.py; steps in bytes, strides in elements
    const float *query, *key, *value;
    float *result, *log_sums;
    const uint64_t *seed;        // read by the kernel, so that a replayed graph draws anew
    const int32_t *key_lengths;  // null: all keys are real
    int64_t query_batch, query_head, query_time, key_batch, key_head, value_batch, value_head;
    int32_t key_step, value_step, length_stride, batch, heads, num_queries, num_keys, band, threshold;
    float scale;  // width^-0.5 * log2(e)
};

struct Head {
    const float *query, *key, *value;
    int sample, head, length;
};

template <int WIDTH>
struct Row {  // one query; a key's weight is exp2(score - reference)
    float query[WIDTH], sum[WIDTH], total, reference;
};

#ifdef __CUDA_ARCH__  // an instruction or two each; the exact ones mind denormal numbers, which do not matter here
PER_THREAD float power_of_two(float x) { asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x)); return x; }
PER_THREAD float logarithm(float x) { return __log2f(x); }
PER_THREAD float quotient(float x, float y) { return __fdividef(x, y); }
#else
PER_THREAD float power_of_two(float x) { return std::exp2(x); }
PER_THREAD float logarithm(float x) { return std::log2(x); }
PER_THREAD float quotient(float x, float y) { return x / y; }
#endif

// Has a value computed from x where it is used, rather than kept in registers since long before.
PER_THREAD int here(int x) {
#ifdef __CUDA_ARCH__
    asm volatile("" : "+r"(x));
#endif
    return x;
}

PER_THREAD Head head_of(const Arguments &a, int sample, int head) {
    const int length = a.key_lengths ? min(a.num_keys, a.key_lengths[int64_t(sample) * a.length_stride]) : a.num_keys;
    return {a.query + sample * a.query_batch + head * a.query_head, a.key + sample * a.key_batch + head * a.key_head,
            a.value + sample * a.value_batch + head * a.value_head, sample, head, length};
}

PER_THREAD const float *step(const float *from, uint32_t rows, uint32_t bytes) {
    return reinterpret_cast<const float *>(reinterpret_cast<const char *>(from) + uint64_t(rows) * bytes);
}

// A query sees the keys below this number; none, if it is not positive.
PER_THREAD int visible_keys(const Arguments &a, const Head &head, int row) { return min(head.length, row + 1 + a.band); }

// The score of any visible key will do as the first reference: then the sum of weights is at least 1, and above there is
// room up to LIMIT. So no maximum is taken, which would cost an instruction a score.
template <int WIDTH>
PER_THREAD void start(const Arguments &a, const Head &head, Row<WIDTH> &row, int number) {
    const bool sees = visible_keys(a, head, number) > 0;
    row.reference = sees ? 0.0f : LOWEST;
    row.total = 0.0f;
    UNROLL for (int c = 0; c < WIDTH; ++c) {
        row.query[c] = number < a.num_queries ? head.query[number * a.query_time + c] * a.scale : 0.0f;
        if (sees) row.reference = fmaf(row.query[c], head.key[c], row.reference);
        row.sum[c] = 0.0f;
    }
}

template <bool RARE>
PER_THREAD void load_group(float (&column)[GROUP], const float *from) {
    UNROLL for (int k = 0; k < GROUP; k += 4) {
        if (RARE) {  // volatile: read again, not kept in registers through the loop for the case that it is needed
            const volatile float *four = from + k;
            column[k] = four[0], column[k + 1] = four[1], column[k + 2] = four[2], column[k + 3] = four[3];
        } else {
            const float4 four = *reinterpret_cast<const float4 *>(from + k);
            column[k] = four.x, column[k + 1] = four.y, column[k + 2] = four.z, column[k + 3] = four.w;
        }
    }
}

// Scores; less the reference, unless RARE: the chain of multiply-adds starts there for nothing.
template <bool RARE, int WIDTH>
PER_THREAD void multiply(float (&score)[ROWS][GROUP], const Row<WIDTH> (&rows)[ROWS], const float *keys) {
    UNROLL for (int c = 0; c < WIDTH; ++c) {
        float column[GROUP];
        load_group<RARE>(column, keys + c * COLUMN);
        UNROLL for (int r = 0; r < ROWS; ++r) UNROLL for (int k = 0; k < GROUP; ++k)
            score[r][k] = fmaf(rows[r].query[c], column[k], c ? score[r][k] : RARE ? 0.0f : -rows[r].reference);
    }
}

PER_THREAD float sum_of(const float (&x)[GROUP]) {
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}

// The rare case of a weight above LIMIT: the highest score so far becomes the reference.
template <int WIDTH>
PER_THREAD void raise(const Arguments &a, const Head &head, float (&weight)[ROWS][GROUP], Row<WIDTH> (&rows)[ROWS],
                      const float *keys, int first_key, int first_row, int apart) {
    multiply<true>(weight, rows, keys);
    first_row = here(first_row);
    UNROLL for (int r = 0; r < ROWS; ++r) {
        const int seen = visible_keys(a, head, first_row + r * apart) - first_key;
        float raised = rows[r].reference;
        UNROLL for (int k = 0; k < GROUP; ++k) raised = k < seen ? fmaxf(raised, weight[r][k]) : raised;
        const float decay = power_of_two(rows[r].reference - raised);
        UNROLL for (int c = 0; c < WIDTH; ++c) rows[r].sum[c] *= decay;
        rows[r].total *= decay;
        rows[r].reference = raised;
        UNROLL for (int k = 0; k < GROUP; ++k) weight[r][k] = k < seen ? power_of_two(weight[r][k] - raised) : 0.0f;
    }
}

PER_THREAD void multiply_wide(uint32_t &high, uint32_t &low, uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__  // one instruction; without asm the compiler takes two
    asm("{.reg .b64 x; mul.wide.u32 x, %2, %3; mov.b64 {%1, %0}, x;}" : "=r"(high), "=r"(low) : "r"(a), "r"(b));
#else
    const uint64_t product = uint64_t(a) * b;
    high = uint32_t(product >> 32), low = uint32_t(product);
#endif
}

// Philox 4x32 (Salmon et al., 2011) with seven rounds.
PER_THREAD void philox(uint32_t (&word)[4], uint64_t seed) {
    uint32_t low = uint32_t(seed), high = uint32_t(seed >> 32);
    UNROLL for (int round = 0; round < 7; ++round) {
        uint32_t first_high, first_low, second_high, second_low;
        multiply_wide(first_high, first_low, 0xD2511F53u, word[0]);
        multiply_wide(second_high, second_low, 0xCD9E8D57u, word[2]);
        word[0] = second_high ^ word[1] ^ low, word[1] = second_low;
        word[2] = first_high ^ word[3] ^ high, word[3] = first_low;
        low += 0x9E3779B9u, high += 0xBB67AE85u;
    }
}

// Whether the low half of a word is at least threshold, which is above 0.
PER_THREAD bool low_half_is_kept(uint32_t word, uint32_t threshold) {
#ifdef __CUDA_ARCH__  // the carry of (word << 16) - (threshold << 16): one instruction shifts, adds and sets a predicate
    uint32_t carry;
    asm("{.reg .b32 x; shl.b32 x, %1, 16; add.cc.u32 x, x, %2; addc.u32 %0, 0, 0;}"
        : "=r"(carry) : "r"(word), "r"(0u - (threshold << 16)));
    return carry;
#else
    return (word & 0xffffu) >= threshold;
#endif
}

// One group of keys more for the ROWS queries of a thread, which are `apart` from each other.
template <bool DROPOUT, int WIDTH>
PER_THREAD void attend(const Arguments &a, const Head &head, Row<WIDTH> (&rows)[ROWS], const float *keys,
                       const float *values, int first_key, int first_row, int apart, bool all_visible, uint64_t seed) {
    float weight[ROWS][GROUP], group_sum[ROWS];
    multiply<false>(weight, rows, keys);
    UNROLL for (int r = 0; r < ROWS; ++r) UNROLL for (int k = 0; k < GROUP; ++k) weight[r][k] = power_of_two(weight[r][k]);
    if (!all_visible) {
        const int row = here(first_row);
        UNROLL for (int r = 0; r < ROWS; ++r) {
            const int seen = visible_keys(a, head, row + r * apart) - first_key;
            UNROLL for (int k = 0; k < GROUP; ++k) weight[r][k] = k < seen ? weight[r][k] : 0.0f;
        }
    }
    bool is_large = false;
    UNROLL for (int r = 0; r < ROWS; ++r) {
        group_sum[r] = sum_of(weight[r]);
        is_large |= group_sum[r] > LIMIT;
    }
    if (__builtin_expect(is_large, false)) {
        raise(a, head, weight, rows, keys, first_key, first_row, apart);
        UNROLL for (int r = 0; r < ROWS; ++r) group_sum[r] = sum_of(weight[r]);
    }
    UNROLL for (int r = 0; r < ROWS; ++r) {
        rows[r].total += group_sum[r];
        if (!DROPOUT) continue;
        uint32_t word[4] = {uint32_t(first_key / GROUP), uint32_t(first_row + r * apart), uint32_t(head.head),
                            uint32_t(head.sample)};
        philox(word, seed);
        UNROLL for (int k = 0; k < GROUP; k += 2) {
            if (!low_half_is_kept(word[k / 2], a.threshold)) weight[r][k] = 0.0f;
            if (word[k / 2] < uint32_t(a.threshold) << 16) weight[r][k + 1] = 0.0f;
        }
    }
    UNROLL for (int c = 0; c < WIDTH; ++c) {
        float column[GROUP];
        load_group<false>(column, values + c * COLUMN);
        UNROLL for (int r = 0; r < ROWS; ++r) UNROLL for (int k = 0; k < GROUP; ++k)
            rows[r].sum[c] = fmaf(weight[r][k], column[k], rows[r].sum[c]);
    }
}

template <int WIDTH>
PER_THREAD void merge(Row<WIDTH> &row, const Row<WIDTH> &other) {
    const float reference = fmaxf(row.reference, other.reference);
    const float mine = power_of_two(row.reference - reference), theirs = power_of_two(other.reference - reference);
    UNROLL for (int c = 0; c < WIDTH; ++c) row.sum[c] = row.sum[c] * mine + other.sum[c] * theirs;
    row.total = row.total * mine + other.total * theirs;
    row.reference = reference;
}

template <int WIDTH>
PER_THREAD void store(const Arguments &a, const Head &head, const Row<WIDTH> &row, int number) {
    if (number >= a.num_queries) return;
    const bool sees = !(row.total == 0.0f);  // so written, NaN stays NaN
    const float factor = sees ? quotient(65536.0f / (65536 - a.threshold), row.total) : 0.0f;
    float *result = a.result + ((int64_t(head.sample) * a.num_queries + number) * a.heads + head.head) * WIDTH;
    UNROLL for (int c = 0; c < WIDTH; ++c) result[c] = row.sum[c] * factor;
    a.log_sums[(int64_t(head.sample) * a.heads + head.head) * a.num_queries + number] =
        sees ? row.reference + logarithm(row.total) : INFINITY;
}
