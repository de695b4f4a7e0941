// Store: ordinary C++ objects that are found again after a crash. Start reading here;
// docs/design/store.md tells how it works.
//
//   auto store = pagetrap::store::Store::open("words.store").value();
//   auto& words = *store.root<std::pmr::unordered_map<std::pmr::string, int>>("words").value();
//   store.transaction([&] { words["trap"] += 1; }).value();  // all of it, or nothing
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/store/allocator.hpp>
#include <pagetrap/store/options.hpp>
#include <pagetrap/store/root.hpp>
#include <pagetrap/store/transaction.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// A named root, as Store::roots() lists them.
struct Root {
  std::string name;
  std::string type;  // mangled
  const void* object = nullptr;
  std::size_t size_bytes = 0;
};

/// Owns an open store: its mapping, its file and the file's lock. Move-only.
///
/// The objects in it are plain: pointers into the store are good in every process that opens it,
/// since it is mapped where it was made; or else, if their places are known, at another address
/// (StoreOptions::relocation). What does not survive: objects with virtual functions, pointers to
/// what is outside (functions, literals, the heap: StoreOptions::check_pointers finds them),
/// mutexes, descriptors.
/// Destructors of roots never run by themselves.
///
/// Threads  Transactions exclude each other. Readers of other threads hold read_lock(): they see
///          commits whole, durable or not yet. Reading without it is a data race.
/// fork()   The child does not have the store: nothing is mapped there.
class PAGETRAP_API Store {
 public:
  /// Opens `path`, or makes it. Memory follows what is touched; the time is that of reading the
  /// log.
  /// Errors  EBUSY: somebody has it open; EEXIST: its addresses are in use, and it cannot be
  ///         relocated; EBADMSG: damaged, with the position in the file; ENOTSUP: what the options
  ///         ask cannot be had here.
  static Result<Store> open(const std::string& path, const StoreOptions& options = {});

  /// Everything into the data pages, and the file marked clean. Commits that returned are safe
  /// without it; the next open() has less to read.
  Result<Done> close();
  ~Store();
  Store(Store&& other) noexcept;
  Store& operator=(Store&& other) noexcept;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Runs `body()` or `body(Transaction&)`: all that it changes in the store is committed when this
  /// returns without an error, and nothing of it otherwise. An exception leaves it undone, and goes
  /// on to the caller. Not inside another transaction (EDEADLK).
  /// Errors  EFBIG: it changed more than half of what the log holds; ENOSPC; EIO: the medium. After
  ///         an EIO of the log the store refuses further transactions, until it is opened again.
  /// Cost    one write and one flush, shared with what other threads commit meanwhile.
  template <class Body>
  Result<Done> transaction(Body&& body) {
    const Result<Position> committed = run(std::forward<Body>(body));
    if (!committed) return committed.error();
    return wait_as_opened(*committed);
  }
  /// The same, but returns before it is durable. It is visible at once, and not durable before
  /// anything that was committed earlier.
  template <class Body>
  Result<Position> commit_async(Body&& body) {
    return run(std::forward<Body>(body));
  }
  /// Until what ends at `position` is durable. On an error all commits that are not have been
  /// undone; with Durability::none they stay to be seen, and no more are taken. Not inside a
  /// transaction.
  Result<Done> wait(Position position);
  /// Until everything is: with Durability::none, too.
  Result<Done> sync();

  /// Held by readers of other threads, any number of them.
  [[nodiscard]] std::shared_lock<std::shared_mutex> read_lock() const;

  /// The object called `name`, made from `arguments` in a transaction if there is none (or inside
  /// the caller's): as make() does.
  /// Errors  EPROTOTYPE: there is one, of another type or layout; see migrate().
  template <class T, class... Arguments>
  Result<T*> root(std::string_view name, Arguments&&... arguments) {
    const TypeMark mark = type_mark<T>();
    const Result<void*> there = find_root(name, mark);
    if (!there) return there.error();
    if (*there != nullptr) return static_cast<T*>(*there);
    T* made = nullptr;
    Error wrong{};
    const auto make = [&] {
      // Another thread may have been first.
      const Result<void*> again = find_root(name, mark);
      if (!again) wrong = again.error();
      if (!again || *again != nullptr) {
        made = again ? static_cast<T*>(*again) : nullptr;
        return;
      }
      made = this->make<T>(std::forward<Arguments>(arguments)...);
      set_root(name, mark, made, is_typed(made));
    };
    if (in_transaction()) {
      make();
      return made;
    }
    const Result<Done> done = transaction(make);
    if (!done) return done.error();
    if (wrong.number != 0) return wrong;
    return made;
  }
  /// Null if there is none. EPROTOTYPE as above.
  template <class T>
  Result<T*> find(std::string_view name) const {
    const Result<void*> there = find_root(name, type_mark<T>());
    if (!there) return there.error();
    return static_cast<T*>(*there);
  }
  /// Destroys the object. ENOENT if there is none.
  template <class T>
  Result<Done> erase(std::string_view name) {
    const Result<void*> there = find_root(name, type_mark<T>());
    if (!there) return there.error();
    if (*there == nullptr) return Error{"Store::erase", ENOENT};
    bool gone = false;
    const auto end = [&] {
      const Result<void*> again = find_root(name, type_mark<T>());
      gone = !again || *again != *there;
      if (gone) return;
      destroy(static_cast<T*>(*there), remove_root(name));
    };
    if (in_transaction()) {
      end();
    } else if (const Result<Done> done = transaction(end); !done) {
      return done.error();
    }
    if (gone) return Error{"Store::erase", ENOENT, {}, "another thread was first"};
    return Done{};
  }
  /// How a program takes over what an earlier version left: the object `name`, which is an `Old`,
  /// is given to `convert(Old&)`, which returns a New* from make<New>(); that takes its name, and
  /// the old one is destroyed. One transaction.
  template <class Old, class New, class Convert>
  Result<New*> migrate(std::string_view name, Convert&& convert) {
    const Result<void*> there = find_root(name, type_mark<Old>());
    if (!there) return there.error();
    if (*there == nullptr) return Error{"Store::migrate", ENOENT};
    New* made = nullptr;
    bool gone = false;
    const Result<Done> done = transaction([&] {
      const Result<void*> again = find_root(name, type_mark<Old>());
      gone = !again || *again != *there;
      if (gone) return;
      made = convert(*static_cast<Old*>(*there));
      const bool was_typed = remove_root(name);
      set_root(name, type_mark<New>(), made, is_typed(made));
      destroy(static_cast<Old*>(*there), was_typed);
    });
    if (!done) return done.error();
    if (gone) return Error{"Store::migrate", ENOENT, {}, "another thread was first"};
    return made;
  }
  [[nodiscard]] std::vector<Root> roots() const;

  /// A new object, inside a transaction: in a typed block if its type says where it has pointers
  /// (pointers.hpp), and given typed_allocator() then, if it takes allocators; else given
  /// resource(), as std::pmr containers want it.
  template <class T, class... Arguments>
  T* make(Arguments&&... arguments) {
    if constexpr (Described<T>) {
      auto allocator = typed_allocator<T>();
      T* const place = allocator.allocate(1);
      try {
        note_typed(place);
        allocator.construct(place, std::forward<Arguments>(arguments)...);
      } catch (...) {
        allocator.deallocate(place, 1);
        throw;
      }
      return place;
    } else {
      return allocator().template new_object<T>(std::forward<Arguments>(arguments)...);
    }
  }
  /// For containers whose blocks may be relocated: allocator.hpp.
  template <class T = std::byte>
  [[nodiscard]] Allocator<T> typed_allocator() const noexcept {
    return Allocator<T>(typed_memory());
  }
  /// Whether it is mapped elsewhere than its file says.
  [[nodiscard]] bool relocated() const noexcept;

  /// Where untyped blocks of the store are. Its address is the same in every process, and
  /// containers that have it may stay in the store. allocate() outside a transaction throws
  /// SystemError{EPERM}.
  [[nodiscard]] std::pmr::memory_resource* resource() const noexcept;
  [[nodiscard]] std::pmr::polymorphic_allocator<> allocator() const noexcept {
    return std::pmr::polymorphic_allocator<>(resource());
  }
  [[nodiscard]] bool in_transaction() const noexcept;
  [[nodiscard]] bool contains(const void* address) const noexcept {
    return range().contains(address);
  }
  /// All addresses that it may ever use.
  [[nodiscard]] PageRange range() const noexcept;

  /// Before a system call writes to `length` bytes at `address` (read, recv): takes the faults that
  /// it would not survive. Inside a transaction.
  Result<Done> prepare(void* address, std::size_t length);

  /// Brings the data pages up to date; happens by itself when the log is half full.
  Result<Done> checkpoint();
  [[nodiscard]] StoreStatistics statistics() const;

 private:
  friend class StoreState;
  explicit Store(std::unique_ptr<StoreState> state) noexcept;

  template <class Body>
  Result<Position> run(Body&& body);
  Result<Done> begin();
  Result<Position> commit();
  void rollback() noexcept;
  Result<Done> wait_as_opened(Position position);
  [[nodiscard]] Result<void*> find_root(std::string_view name, const TypeMark& mark) const;
  void set_root(std::string_view name, const TypeMark& mark, void* object, bool typed);
  /// Whether its object is in a typed block. Precondition: there is one.
  bool remove_root(std::string_view name);
  [[nodiscard]] TypedMemory* typed_memory() const noexcept;
  /// What this transaction's make() has put into typed blocks.
  void note_typed(const void* object);
  [[nodiscard]] bool is_typed(const void* object) const noexcept;
  template <class T>
  void destroy(T* object, bool typed) noexcept {
    std::destroy_at(object);
    if (typed) {
      typed_memory()->deallocate(object, sizeof(T), alignof(T));
    } else {
      resource()->deallocate(object, sizeof(T), alignof(T));
    }
  }

  std::unique_ptr<StoreState> state_;
};

template <class Body>
Result<Position> Store::run(Body&& body) {
  if (const Result<Done> begun = begin(); !begun) return begun.error();
  try {
    Transaction transaction(*state_);
    if constexpr (std::is_invocable_v<Body, Transaction&>) {
      std::forward<Body>(body)(transaction);
    } else {
      std::forward<Body>(body)();
    }
  } catch (const Transaction::Aborted&) {
    rollback();

    return Error{"transaction", ECANCELED, {}, "it was aborted"};
  } catch (...) {
    rollback();
    throw;
  }
  return commit();
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
