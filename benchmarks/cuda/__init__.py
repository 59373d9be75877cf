"""The forward pass of narrow-head attention as one hand-written CUDA kernel for sm_90: what Triton leaves on the table.

It computes what the library's fused kernels compute, in exact float32, for head widths 5, 8, 10 and 16:

- score = query . key / sqrt(width); query i sees key j if j < key_length of the sample and j - i <= band.
- The result is the softmax-weighted sum of values, zero for a query that sees nothing; the second output is the base-2
  logarithm of the sum of 2 ** (score * log2(e)), infinite for a query that sees nothing.
- Dropout acts on the weights after the softmax. Weight (sample b, head h, query i, key j) is kept if its draw of 16
  bits is at least threshold = min(round(dropout * 65536), 65535), and is then scaled by 65536 / (65536 - threshold).
  The draw is a half (j % 2, low half first) of word (j % 8) // 2 of Philox4x32-7 with the counter (j // 8, i, h, b)
  and the key (low half, high half) of a 64-bit seed that lies on the device.

Nothing depends on the order in which threads run: the same input gives the same bits.

What makes it cheap, counted in its SASS (``python -m benchmarks.cuda.inspect`` prints the counts):

- A score costs width + width multiply-adds, one exponential, one addition and little else. There is no running maximum:
  weights are taken relative to the score of key 0, and a weight above 2 ** 40 (rare) moves the reference.
- Four queries a thread share each read of keys and values, and the parts of Philox that depend on the key alone.
- Dropout costs one multiplication and one exclusive-or for each half of a round, a comparison and a selection.

``thread.cuh`` is the work of one thread, ``attention.cu`` the kernel around it and the same work in plain loops on the
host (for tests), ``build.py`` compiles and loads them, ``attention.py`` is called with tensors, ``inspect.py`` counts.
"""
