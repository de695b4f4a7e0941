// GNU libsigsegv in the same process: installed before us and after us. It passes nothing on: a
// fault that its handlers decline becomes the default action.
#include <sigsegv.h>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

std::atomic<int> g_theirs{0};
std::byte* g_their_page = nullptr;

int their_handler(void* address, int /*serious*/) {
  if (page_of(address).base != g_their_page) return 0;
  g_theirs.fetch_add(1);
  return ::mprotect(g_their_page, page_size(), PROT_READ | PROT_WRITE) == 0 ? 1 : 0;
}

void close_their_page() { ::mprotect(g_their_page, page_size(), PROT_NONE); }

struct Ours {
  Region region;
  Opener opener;
  Ours() {
    region = must(
        Region::create(page_size(), options_for(BackendId::mprotect, FaultKind::write_protected)),
        "create");
    must(region.on_fault(Opener::open, &opener), "on_fault");
  }
  void fault() {
    must(region.protect(region.range(), Access::read), "protect");
    const int before = opener.faults;
    store(region.data(), 1);
    require(opener.faults == before + 1, "our fault");
  }
};

void their_fault() {
  close_their_page();
  const int before = g_theirs;
  store(g_their_page, 1);
  require(g_theirs == before + 1, "their fault");
}

TEST(Libsigsegv, BeforeUs) {
  EXPECT_EQ(kSucceeded, in_child([] {
              g_their_page = foreign_pages(1, PROT_NONE);
              require(::sigsegv_install_handler(their_handler) == 0, "sigsegv_install_handler");
              Ours ours;
              for (int i = 0; i < 50; ++i) {
                ours.fault();
                their_fault();
              }
            }));
}

TEST(Libsigsegv, AfterUsAndThenInstalledAgain) {
  EXPECT_EQ(kSucceeded, in_child([] {
              g_their_page = foreign_pages(1, PROT_NONE);
              Ours ours;
              ours.fault();
              require(::sigsegv_install_handler(their_handler) == 0, "sigsegv_install_handler");
              require(!signal_handlers_in_front(), "they are in front");
              must(install_signal_handlers(), "install again");
              for (int i = 0; i < 50; ++i) {
                ours.fault();
                their_fault();
              }
            }));
}

TEST(Libsigsegv, AFaultThatNeitherKnowsKills) {
  EXPECT_EQ(killed_by(SIGSEGV), in_child([] {
              g_their_page = foreign_pages(1, PROT_NONE);
              require(::sigsegv_install_handler(their_handler) == 0, "sigsegv_install_handler");
              Ours ours;
              ours.fault();
              store(foreign_pages(1, PROT_NONE), 1);
            }));
}

}  // namespace
}  // namespace pagetrap::hazards
