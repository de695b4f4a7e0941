// Constants and structures of the kernel's interface that Debian 12's headers (Linux 6.1) lack.
// Values are ABI and never change; each names the kernel that brought it. Where the installed
// headers know a name already, theirs is used.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/mman.h>

#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming): the kernel's names

// linux/userfaultfd.h
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1  // 5.11
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)  // 5.19
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)  // 6.4
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)  // 6.6
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)  // 6.7
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)  // 6.8
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP (std::uint64_t{1} << 1)  // 6.4
#endif
#ifndef UFFDIO_MOVE
struct uffdio_move {
  __u64 dst;
  __u64 src;
  __u64 len;
  __u64 mode;
  __s64 move;
};
#define UFFDIO_MOVE_MODE_DONTWAKE (std::uint64_t{1} << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES (std::uint64_t{1} << 1)
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)  // 6.8
#endif
#ifndef UFFDIO_POISON
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)  // 6.6
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)  // 6.1, on /dev/userfaultfd
#endif

// linux/fs.h
#ifndef PAGEMAP_SCAN
struct page_region {
  __u64 start;
  __u64 end;
  __u64 categories;
};
struct pm_scan_arg {
  __u64 size;
  __u64 flags;
  __u64 start;
  __u64 end;
  __u64 walk_end;
  __u64 vec;
  __u64 vec_len;
  __u64 max_pages;
  __u64 category_inverted;
  __u64 category_mask;
  __u64 category_anyof_mask;
  __u64 return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)  // 6.7
#define PAGE_IS_WRITTEN (std::uint64_t{1} << 1)
#define PAGE_IS_PRESENT (std::uint64_t{1} << 3)
#define PAGE_IS_SWAPPED (std::uint64_t{1} << 4)
#define PAGE_IS_PFNZERO (std::uint64_t{1} << 5)
#define PM_SCAN_WP_MATCHING (std::uint64_t{1} << 0)
#define PM_SCAN_CHECK_WPASYNC (std::uint64_t{1} << 1)
#endif

// asm-generic/mman-common.h
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102  // 6.13
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // 6.1
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // 5.14
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4  // 5.7
#endif

// NOLINTEND(readability-identifier-naming)
