// Training of word vectors: the skip-gram model on a text of word ids.
//
// A text is paragraphs of words. Words are kept by word2vec's subsampling; each kept position is the centre of a window
// whose reach is uniform in 1..window, and each position in it gives a pair (centre x, context c), x a row of the word
// vectors and c a row of the output vectors. With k negatives for each pair, drawn from q ~ count^ns_exponent, a pair
// has the loss
//
//   negative sampling  softplus(-x c) - k q(c) softplus(x c) + sum over k negatives n of softplus(x n)
//   NCE                the same of logits less log(k q V), without the second term
//   sampled softmax    log(1 + sum over S negatives n of exp(x n - log(S q(n)) - x c + log(S q(c))))
//
// The second term makes negative sampling word2vec's in expectation: it skips a negative that is the context.
//
// A block of up to L positions shares S negatives, each with the weight k pairs / S for a position of that many pairs.
// It is one step of plain gradient descent on the sum of its losses: every gradient is at the values that the block has
// found. Blocks follow each other in the text; windows reach across them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fastnce/distribution.h"
#include "fastnce/types.h"

namespace fastnce {

enum class SkipGramLoss : std::uint8_t { kNegativeSampling, kNce, kSampledSoftmax };

struct SkipGramOptions {
  std::int64_t window = 5;    // the largest reach, at most 1024
  std::int64_t negative = 5;  // k, at most 1024; read by sampled softmax for S alone
  double sample = 1e-3;       // t: a word of frequency f is kept with probability sqrt(t / f) + t / f; 0: always
  double ns_exponent = 0.75;
  SkipGramLoss loss = SkipGramLoss::kNegativeSampling;
  std::uint64_t seed = 1;
  Precision precision = Precision::kHighest;  // of the products with the negatives
};

// Rows of D floats, each contiguous, at any distance.
struct EmbeddingTable {
  float* data = nullptr;
  std::int64_t row_stride = 0;  // in elements
};

// A piece of the text.
struct SkipGramText {
  // Word ids; -1 ends a paragraph. A paragraph of more than 8192 ids is cut at multiples of 8192.
  std::span<const std::int32_t> ids;
  // The number of ids before these in the whole run. Random numbers are a function of the seed and the number of an id
  // in the run.
  std::uint64_t place = 0;
  double first_rate = 0, last_rate = 0;  // the learning rate at the first id and at the last; linear between
};

// What training looks up for each word that it reads.
struct SkipGramWord {
  std::uint32_t keep;  // a word is kept if 32 random bits are not above this
  float term;          // k q; NCE: log(k q V); sampled softmax: log(S q)
};

struct SkipGramProgress {
  double loss = 0;         // of all pairs, summed; the negatives' with their weights
  std::int64_t pairs = 0;  // centre and context
  std::int64_t kept = 0;   // positions
};

class SkipGram {
 public:
  // `counts`: how often each word occurs. Throws InvalidValue for options out of range, for counts below 1 and for more
  // than kMostTabledClasses of them.
  SkipGram(const SkipGramOptions& options, std::span<const std::int64_t> counts);

  // Trains the tables [V, D] on up to `threads` threads, which update them without locks: more than one give other
  // numbers on every run. Throws InvalidValue for ids outside [-1, V), for rates that are no finite numbers of at least
  // 0, and for threads or D below 1; then nothing is written.
  SkipGramProgress train(const EmbeddingTable& vectors, const EmbeddingTable& outputs, std::int64_t dim,
                         const SkipGramText& text, std::int64_t threads) const;

  std::int64_t num_words() const { return static_cast<std::int64_t>(words_.size()); }

  // S: 32 for each 5 negatives, at most 128.
  std::int64_t num_samples() const { return samples_; }

  // L: at most 64, and so few that no row of a table gets gradients whose weights, times the rate, exceed 3 in
  // expectation. Training diverges somewhere above that. Throws InvalidValue for a rate that is no finite number of at
  // least 0.
  std::int64_t block_positions(double rate) const;

  // How often a word stands in a block, at most: so often that the weights of its own gradients, times the rate, do not
  // exceed 1. A block ends before more.
  std::int64_t block_repeats(double rate) const;

 private:
  SkipGramOptions options_;
  UnigramTable unigram_;
  std::int64_t samples_;
  double commonest_negative_ = 0, commonest_kept_ = 0;  // the largest share of a word among negatives, kept positions
  std::vector<SkipGramWord> words_;                     // [V]
};

}  // namespace fastnce
