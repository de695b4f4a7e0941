// What the questions about opening share.
#pragma once

#include "harness/report.hpp"
#include "rivals/record_store.hpp"

namespace pagetrap::bench {

/// Nanoseconds from `open` to the first record, in a process of its own.
double time_to_first_record(Report& report, const OpenRecordStore& open,
                            const RecordStoreOptions& options);

}  // namespace pagetrap::bench
