# Prints the table of instruction counts of one kernel (-v series=...) from the outputs of two runs
# of kernels_icount, given in turn. Exits 1 if the runs differ by more than 1%.
#
# "exact" in the last column: both runs counted the same. The table shows minima; see icount.cpp.
FNR == 1 { run++ }
$1 == "icount" && NF == 4 {
  least[run, $2] = $3
  if (run == 1) { median[$2] = $4; order[++rows] = $2 }
}
$1 == "dispatch" { extra[run, $2] = $3; if (run == 1) differences[++n] = $2 }
$1 == "goal" { goal = $4 }
run == 1 && ($1 == "calibration:" || $1 == "notice") { remarks = remarks "  " $0 "\n" }

# How far run 2 is from run 1.
function agreement(a, b, scale) {
  if (a == b) return "exact"
  off = (b - a) / scale
  if (off < 0) off = -off
  if (off > 0.01) { bad = 1; return "DIFFERS: " b }
  return sprintf("within 1%%: %d", b)
}

END {
  printf "\nLinux %s, in instructions (qemu -icount, one processor)\n", series
  printf "%s", remarks
  printf "  %-34s %8s %8s   %s\n", "", "minimum", "median", "second run"
  for (i = 1; i <= rows; i++) {
    name = order[i]
    printf "  %-34s %8d %8d   %s\n", name, least[1, name], median[name],
      agreement(least[1, name], least[2, name], least[1, name])
  }
  printf "  our dispatch: pagetrap's TRAP less the bare handler's, same page, same work (goal %d)\n", goal
  for (i = 1; i <= n; i++) {
    name = differences[i]
    d = extra[1, name]
    # Against the trap it is a part of: one instruction of sixty is more than 1%.
    printf "  %-34s %8d %8s   %s\n", name, d, (d > goal ? "MISSED" : ""),
      agreement(d, extra[2, name], least[1, "trap." name ".bare"])
    if (d > goal) missed = missed " " name
    if (name ~ /^among\./) { if (!seen || d < low) low = d; if (!seen || d > high) high = d; seen = 1 }
  }
  if (seen) printf "  growth from 1 to 100,000 regions: %d instructions%s\n", high - low,
    (high - low > 6 ? " - NOT FLAT" : ", flat")
  if (missed != "") printf "  GOAL MISSED (%d instructions) by:%s\n", goal, missed
  else printf "  goal met: at most %d instructions, flat\n", goal
  printf "  %s\n", bad ? "NOT REPRODUCIBLE: the two runs differ" : "the two runs agree"
  exit bad
}
