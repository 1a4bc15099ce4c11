// The kernels outside the [B, S] plane (LossKernels in loss_kernels.h). Compiled once per instruction set; the rules
// are in simd-inl.h.

template <class T>
constexpr LossKernels<T> kLossKernels = {
    .widen = widen<T>,
    .narrow = narrow<T>,
    .sampled_offsets = sampled_offsets<T>,
    .logistic_true_classes = logistic_true_classes<T>,
    .softmax_true_logits = softmax_true_logits<T>,
    .softmax_true_classes = softmax_true_classes<T>,
    .clear_rows = clear_rows<T>,
    .set_true_rows = true_rows<T, Write::kSet>,
    .add_true_rows = true_rows<T, Write::kAdd>,
    .add_copies = add_copies<T>,
    .fill_filter = fill_filter,
    .group_rows = group_rows<T>,
};
