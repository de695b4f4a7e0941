// The examination as JSON, schema pagetrap-doctor/1. docs/commands.md describes the members.
#include <string.h>

#include <string>

#include <pagetrap/vm/vm.hpp>

#include "../commands.hpp"
#include "../text/json_writer.hpp"
#include "examination.hpp"

namespace pagetrap::tool {
namespace {

void write_settings(JsonWriter& json, const std::vector<Setting>& settings) {
  json.begin_object();
  for (const Setting& setting : settings) json.member(setting.name, setting.value);
  json.end_object();
}

void write_machine(JsonWriter& json, const MachineFacts& machine) {
  json.key("machine").begin_object();
  json.member("kernel", machine.kernel).member("architecture", machine.architecture);
  json.member("processor", machine.processor);
  json.member("cpus", static_cast<int>(machine.cpus)).member("hypervisor", machine.hypervisor);
  json.member("memory_bytes", machine.memory_bytes).member("page_bytes", machine.page_bytes);
  json.member("max_map_count", machine.max_map_count);
  json.key("settings");
  write_settings(json, machine.settings);
  json.end_object();
}

void write_user(JsonWriter& json, const UserFacts& user) {
  json.key("user").begin_object();
  json.member("uid", static_cast<int>(user.uid)).member("name", user.name);
  json.key("capabilities").begin_array();
  for (const std::string& capability : user.capabilities) json.value(capability);
  json.end_array().key("limits");
  write_settings(json, user.limits);
  json.end_object();
}

void write_features(JsonWriter& json) {
  json.key("features").begin_array();
  for (const Feature& feature : features()) {
    const char* const error = feature.error != 0 ? strerrorname_np(feature.error) : nullptr;
    json.begin_object();
    json.member("id", feature.id).member("purpose", feature.purpose);
    json.member("available", feature.available).member("errno", feature.error);
    json.member("errno_name", error != nullptr ? error : "");
    json.member("remedy", feature.remedy).member("fallback", feature.fallback);
    json.end_object();
  }
  json.end_array();
}

void write_capabilities(JsonWriter& json, const Capabilities& can) {
  json.key("capabilities").begin_object();
  json.key("faults").begin_array();
  if (can.faults.has(FaultKind::missing)) json.value("missing");
  if (can.faults.has(FaultKind::minor)) json.value("minor");
  if (can.faults.has(FaultKind::write_protected)) json.value("write_protected");
  if (can.faults.has(FaultKind::no_access)) json.value("no_access");
  json.end_array();
  json.member("per_page", can.per_page).member("faulting_thread", can.faulting_thread);
  json.member("handler_thread", can.handler_thread);
  json.member("kernel_accesses", can.kernel_accesses).member("no_splits", can.no_splits);
  json.member("no_shootdown", can.no_shootdown).end_object();
}

void write_costs(JsonWriter& json, const Figure* begin, const Figure* end) {
  json.key("costs_ns").begin_object();
  for (const Figure* cost = begin; cost != end; ++cost) {
    json.member(cost->what.view(), cost->nanoseconds);
  }
  json.end_object();
}

void write_backends(JsonWriter& json, const Examination& examination) {
  json.key("backends").begin_array();
  for (const Backend& backend : backends()) {
    json.begin_object();
    json.member("name", backend.name).member("mechanism", backend.mechanism);
    json.member("available", backend.available);
    json.member("reason", backend.reason).member("remedy", backend.remedy);
    write_capabilities(json, capabilities(backend.id, Backing::anonymous));
    for (const TrapByBackend& trap : examination.traps) {
      if (trap.backend != backend.id) continue;
      json.member("problem", trap.measured.problem.view());
      write_costs(json, trap.measured.begin(), trap.measured.end());
    }
    json.end_object();
  }
  json.end_array();
}

void write_primitives(JsonWriter& json, const Examination& examination) {
  json.key("primitives").begin_array();
  for (const PrimitiveFinding& primitive : examination.primitives) {
    json.begin_object();
    json.member("id", primitive.id).member("mechanism", primitive.mechanism);
    json.member("why", primitive.why).member("served", primitive.served);
    json.member("problem", primitive.problem);
    const Figure* const costs = primitive.costs.data();
    write_costs(json, costs, costs + primitive.costs.size());
    json.end_object();
  }
  json.end_array();
}

void write_calls(JsonWriter& json, const Examination& examination) {
  json.key("system_calls").begin_array();
  for (const CallTrial& call : examination.calls) {
    json.begin_object();
    json.member("subject", call.subject).member("access", call.access);
    json.member("predicted", call_outcome_name(call.predicted));
    json.member("observed", call_outcome_name(call.observed));
    json.member("as_predicted", call.as_predicted()).member("problem", call.problem);
    json.end_object();
  }
  json.end_array();
}

void write_processes(JsonWriter& json, const ProcessFinding& finding) {
  json.key("processes").begin_object();
  json.member("saved", finding.saved).member("problem", finding.problem);
  json.member("frozen_us", finding.frozen_us).member("tracked", finding.tracked);
  json.member("restarted", finding.saved && finding.restart_problem.empty());
  json.member("restart_problem", finding.restart_problem);
  json.member("own_namespace", finding.own_namespace);
  json.member("lazy", finding.saved && finding.lazy_problem.empty());
  json.member("lazy_problem", finding.lazy_problem).end_object();
}

}  // namespace

std::string examination_json(const Examination& examination) {
  JsonWriter json;
  json.begin_object();
  json.member("schema", "pagetrap-doctor/1").member("version", version_text());
  write_machine(json, examination.machine);
  write_user(json, examination.user);
  write_features(json);
  write_backends(json, examination);
  write_primitives(json, examination);
  write_calls(json, examination);
  write_processes(json, examination.processes);
  json.key("contradictions").begin_array();
  for (const std::string& contradiction : examination.contradictions()) json.value(contradiction);
  json.end_array().end_object();
  return json.text();
}

}  // namespace pagetrap::tool
