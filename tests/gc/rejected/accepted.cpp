// What must compile.
#include <optional>
#include <string>

#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Other : gc::leaf<Other> {
  double value = 0;
};
struct Node : gc::object<Node> {
  gc::ref<Node> left, right;
  int number = 0;
  std::array<gc::ref<Other>, 3> others;
  std::string name;
  std::optional<int> maybe;
  static constexpr auto members = gc::members(&Node::left, &Node::others, &Node::right);
};
class Closed : public gc::object<Closed> {
 public:
  explicit Closed(Closed* next) : next_(next) {}
  virtual ~Closed() = default;

 private:
  gc::ref<Closed> next_;

 public:
  static constexpr auto members = gc::unchecked_members(&Closed::next_);
};
struct Twin : gc::object<Twin> {
  gc::checked_ref<Twin> next;
  std::array<gc::checked_ref<Other>, 2> others;
  static constexpr auto members = gc::members(&Twin::next, &Twin::others);
};
void use(gc::Heap& heap) {
  heap.make<Node>(heap.make<Node>(), nullptr, 3);
  heap.make<Closed>(heap.make<Closed>(nullptr));
  heap.make_array<gc::ref<Other>>(2);
  heap.make<Twin>(heap.make<Twin>());
  heap.make_array<gc::carded_ref<Other>>(2);
}
