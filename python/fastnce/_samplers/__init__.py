"""Candidate samplers: the classes that represent all others in a sampled loss."""

from fastnce._samplers._all import all_candidate_sampler
from fastnce._samplers._hits import compute_accidental_hits
from fastnce._samplers._learned_unigram import LearnedUnigramSampler, learned_unigram_candidate_sampler
from fastnce._samplers._log_uniform import LogUniformSampler, log_uniform_candidate_sampler
from fastnce._samplers._mixed import MixedSampler
from fastnce._samplers._uniform import UniformSampler, uniform_candidate_sampler
from fastnce._samplers._unigram import UnigramSampler, fixed_unigram_candidate_sampler

__all__ = [
    "LearnedUnigramSampler",
    "LogUniformSampler",
    "MixedSampler",
    "UniformSampler",
    "UnigramSampler",
    "all_candidate_sampler",
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "uniform_candidate_sampler",
]
