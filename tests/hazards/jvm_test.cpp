// A Java virtual machine in the same process. It owns SIGSEGV too: null pointers of compiled code,
// safepoints and stack banging are faults that it catches.
#include <dlfcn.h>
#include <jni.h>

#include <cstdlib>
#include <thread>

#include <pagetrap/trace/trace.hpp>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

using CreateJavaVm = jint (*)(JavaVM**, void**, void*);

CreateJavaVm find_jvm() {
  for (const char* path : {"libjvm.so", PAGETRAP_LIBJVM}) {
    void* const library = ::dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (library != nullptr)
      return reinterpret_cast<CreateJavaVm>(::dlsym(library, "JNI_CreateJavaVM"));
  }
  return nullptr;
}

JNIEnv* start_jvm() {
  const CreateJavaVm create = find_jvm();
  if (create == nullptr) ::_exit(77);
  char heap[] = "-Xmx64m";
  char serial[] = "-XX:+UseSerialGC";
  char eager[] = "-XX:CompileThreshold=500";
  JavaVMOption options[] = {{heap, nullptr}, {serial, nullptr}, {eager, nullptr}};
  JavaVMInitArgs arguments{};
  arguments.version = JNI_VERSION_10;
  arguments.nOptions = 3;
  arguments.options = options;
  JavaVM* machine = nullptr;
  JNIEnv* java = nullptr;
  if (create(&machine, reinterpret_cast<void**>(&java), &arguments) != JNI_OK) ::_exit(77);
  return java;
}

// "a".compareTo(null) reads a field of null: the machine finds out by a fault of its own.
void null_pointers(JNIEnv* java, int times) {
  const jclass string = java->FindClass("java/lang/String");
  const jclass null_pointer = java->FindClass("java/lang/NullPointerException");
  const jmethodID compare = java->GetMethodID(string, "compareTo", "(Ljava/lang/String;)I");
  const jstring a = java->NewStringUTF("a");
  for (int i = 0; i < times; ++i) {
    const jint result = java->CallIntMethod(a, compare, i % 4 == 0 ? nullptr : a);
    const jthrowable thrown = java->ExceptionOccurred();
    if (i % 4 == 0) {
      require(thrown != nullptr && java->IsInstanceOf(thrown, null_pointer), "the exception");
      java->ExceptionClear();
      java->DeleteLocalRef(thrown);
    } else {
      require(thrown == nullptr && result == 0, "no exception");
    }
  }
}

void faults_of_ours(Region& region, Opener& opener, int times) {
  for (int i = 0; i < times; ++i) {
    must(region.protect(region.range(), Access::read), "protect");
    const int before = opener.faults;
    store(region.data(), 1);
    require(opener.faults == before + 1, "our fault");
  }
}

void collect_garbage(JNIEnv* java) {
  const jclass system = java->FindClass("java/lang/System");
  java->CallStaticVoidMethod(system, java->GetStaticMethodID(system, "gc", "()V"));
  require(java->ExceptionOccurred() == nullptr, "System.gc");
}

enum class Order { ours_first, theirs_first, ours_again };

End with_jvm(BackendId id, Order order) {
  return in_child(
      [id, order] {
        must(trace::configure("chain"), "trace");
        JNIEnv* java = nullptr;
        if (order == Order::theirs_first) java = start_jvm();
        Region region = must(
            Region::create(page_size(), options_for(id, FaultKind::write_protected)), "create");
        Opener opener;
        must(region.on_fault(Opener::open, &opener), "on_fault");
        faults_of_ours(region, opener, 10);
        if (order != Order::theirs_first) java = start_jvm();
        if (order == Order::ours_again) must(install_signal_handlers(), "install again");
        std::atomic<bool> stop{false};
        Opener others;
        std::thread native([&] {
          Region own = must(
              Region::create(page_size(), options_for(id, FaultKind::write_protected)), "create");
          must(own.on_fault(Opener::open, &others), "on_fault");
          while (!stop) faults_of_ours(own, others, 1);
        });
        for (int round = 0; round < 5; ++round) {
          null_pointers(java, 2000);
          faults_of_ours(region, opener, 100);
          collect_garbage(java);
        }
        stop = true;
        native.join();
        // In front, we have passed their faults on to them.
        std::array<trace::Event, 64> passed;
        if (order != Order::ours_first)
          require(trace::snapshot(passed) > 0, "theirs are passed on");
      },
      60);
}

TEST(Jvm, LivesWithUsInAnyOrder) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    for (const Order order : {Order::ours_first, Order::theirs_first, Order::ours_again}) {
      SCOPED_TRACE(std::string(name(id)) + ", order " + std::to_string(static_cast<int>(order)));
      const End end = with_jvm(id, order);
      if (end == exited(77)) GTEST_SKIP() << "no Java virtual machine can be started here";
      EXPECT_EQ(kSucceeded, end);
    }
  }
}

}  // namespace
}  // namespace pagetrap::hazards
