// Everything of the public C++ API.
#pragma once

#include "fastnce/config.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/evaluate.h"
#include "fastnce/extent.h"
#include "fastnce/interrupt.h"
#include "fastnce/loss.h"
#include "fastnce/optimizer.h"
#include "fastnce/progress.h"
#include "fastnce/rows.h"
#include "fastnce/sampler.h"
#include "fastnce/skip_gram.h"
#include "fastnce/text.h"
#include "fastnce/types.h"
