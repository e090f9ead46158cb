#pragma once
/// Core's fault seam, for the tests of every module that writes files: ScopedFileFault makes one write, fsync, rename,
/// open or read fail, stop half-way, or kill the process.
#include "core/file_faults.h"
