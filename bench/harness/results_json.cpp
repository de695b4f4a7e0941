#include <cstdlib>

#include "harness/json_writer.hpp"
#include "harness/results.hpp"

namespace pagetrap::bench {

namespace {

void write_machine(JsonWriter& json, const Machine& machine) {
  json.open_object("machine");
  json.text("cpu", machine.cpu);
  json.number("cpus", machine.cpus);
  json.boolean("hypervisor", machine.hypervisor);
  json.text("kernel", machine.kernel);
  json.number("memory_bytes", machine.memory_bytes);
  json.number("memory_available_bytes", machine.memory_available_bytes);
  json.number("page_bytes", machine.page_bytes);
  json.number("max_map_count", machine.max_map_count);
  json.text("huge_pages", machine.huge_pages);
  json.text("governor", machine.governor);
  json.text("mitigations", machine.mitigations);
  json.boolean("protection_keys", machine.protection_keys);
  json.boolean("root", machine.root);
  json.text("pagetrap", machine.pagetrap);
  json.close_object();
}

void write_parameters(JsonWriter& json, const Row& row) {
  json.open_object("parameters");
  for (const Parameter& parameter : row.parameters) {
    if (parameter.is_number) {
      json.number(parameter.name, std::strtod(parameter.value.c_str(), nullptr));
    } else {
      json.text(parameter.name, parameter.value);
    }
  }
  json.text("scheduling", row.scheduling);
  json.close_object();
}

void write_row(JsonWriter& json, const Row& row) {
  json.open_object();
  json.text("id", row.question.id);
  json.text("ours", row.question.ours);
  json.text("rival", row.question.rival);
  json.text("unit", row.question.unit);
  json.number("ours_median", row.summary.ours_median);
  json.number("rival_median", row.summary.rival_median);
  json.number("ratio", row.summary.ratio);
  json.number("ratio_low", row.summary.ratio_low);
  json.number("ratio_high", row.summary.ratio_high);
  json.number("pairs", row.summary.pairs);
  if (row.question.target > 0) {
    json.number("target", row.question.target);
    json.boolean("met", row.met());
    if (!row.met()) json.text("bound", row.question.bound);
  } else {
    json.null("target");
    json.null("met");
  }
  write_parameters(json, row);
  json.close_object();
}

void write_break_even(JsonWriter& json, const BreakEven& row) {
  json.open_object();
  json.text("application", row.application);
  json.text("fault_mechanism", row.fault_mechanism);
  json.number("fault_ns", row.fault_ns);
  json.text("instruction", row.instruction);
  json.number("instruction_ns", row.instruction_ns);
  if (row.accesses_per_fault > 0) {
    json.number("accesses_per_fault", row.accesses_per_fault);
    json.number("low", row.low);
    if (row.high > 0) {
      json.number("high", row.high);
    } else {
      json.null("high");  // the instruction's cost may be nothing
    }
  } else {
    json.text("accesses_per_fault", "free: never");
    json.null("low");
    json.null("high");
  }
  json.close_object();
}

void write_missing(JsonWriter& json, const char* key, const std::vector<Missing>& list) {
  json.open_array(key);
  for (const Missing& missing : list) {
    json.open_object();
    json.text("id", missing.id);
    json.text("reason", missing.reason);
    json.close_object();
  }
  json.close_array();
}

}  // namespace

std::string to_json(const Results& results) {
  JsonWriter json;
  json.open_object();
  json.text("schema", "pagetrap-bench/1");
  json.boolean("quick", results.quick);
  json.text("ratio", "median of ours/rival over the pairs; low and high: 10th and 90th percentile");
  write_machine(json, results.machine);
  json.open_array("rows");
  for (const Row& row : results.rows) write_row(json, row);
  json.close_array();
  json.open_array("break_even");
  for (const BreakEven& row : results.break_even) write_break_even(json, row);
  json.close_array();
  write_missing(json, "skipped", results.skipped);
  write_missing(json, "failed", results.failed);
  json.close_object();
  return json.document();
}

}  // namespace pagetrap::bench
