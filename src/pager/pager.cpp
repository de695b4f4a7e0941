#include <pagetrap/pager/pager.hpp>

#include "pager/engine.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

Pager::Pager(std::unique_ptr<Engine> engine) noexcept : engine_(std::move(engine)) {}
Pager::~Pager() = default;

Result<std::unique_ptr<Pager>> Pager::create(const PagerOptions& options) {
  auto engine = Engine::create(options);
  if (!engine) return engine.error();
  return std::unique_ptr<Pager>(new Pager(std::move(*engine)));
}

Result<Done> Pager::set_budget(std::size_t budget_bytes) {
  return engine_->set_budget(budget_bytes);
}
std::size_t Pager::budget() const noexcept { return engine_->budget(); }
PagerStatistics Pager::statistics() const noexcept { return engine_->statistics(); }

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
