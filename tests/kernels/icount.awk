# Prints the table of instruction counts of one kernel (-v series=...) from the outputs of two runs
# of kernels_icount, given in turn. Exits 1 if the runs differ by more than 1%.
#
# The figures are minima of the first run; see icount.cpp. "exact" in the last column: the second
# run counted the same.
FNR == 1 { run++ }
$1 == "icount" && NF == 4 {
  side = $2 ~ /\.bare$/ ? "bare" : "ours"
  name = $2
  sub(/\.(bare|ours)$/, "", name)
  least[run, name, side] = $3
  if (run == 1 && !(name in seen)) { seen[name] = 1; order[++rows] = name }
}
$1 == "goal" { goal = $4 }
run == 1 && ($1 == "calibration:" || $1 == "notice") { remarks = remarks "  " $0 "\n" }

function number(n) { return n == "" ? "-" : n }

# What the second run says of a row.
function agreement(name, side,   a, b, off, worst) {
  worst = "exact"
  for (side in sides) {
    a = least[1, name, side]
    b = least[2, name, side]
    if (a == b) continue
    off = a > 0 ? (b - a) / a : 1
    if (off > 0.01 || off < -0.01) { bad = 1; return "DIFFERS: " side " " b }
    worst = sprintf("within 1%%: %s %d", side, b)
  }
  return worst
}

END {
  sides["bare"]; sides["ours"]
  printf "\nLinux %s, in instructions (qemu -icount, one processor)\n%s", series, remarks
  printf "  %-24s %8s %8s %11s   %s\n", "", "bare", "pagetrap", "difference", "second run"
  for (i = 1; i <= rows; i++) {
    name = order[i]
    bare = least[1, name, "bare"]
    ours = least[1, name, "ours"]
    extra = bare == "" || ours == "" ? "-" : ours - bare
    printf "  %-24s %8s %8s %11s   %s\n", name, number(bare), number(ours), extra, agreement(name)
    if (name !~ /^trap/ || extra == "-") continue
    # For TRAP alone the difference is our dispatch: same page, same work in the handler.
    if (extra > goal) missed = missed " " name " " extra
    if (name ~ /among/) {
      if (among++ == 0) low = high = extra
      if (extra < low) low = extra
      if (extra > high) high = extra
    }
  }
  flat = high - low <= 6
  if (among) printf "  dispatch grows by %d instructions from 1 to 100,000 regions: %s\n", high - low,
    flat ? "flat" : "NOT FLAT"
  if (missed == "") printf "  GOAL MET: dispatch takes at most %d instructions\n", goal
  else printf "  GOAL MISSED: dispatch should take at most %d instructions:%s\n", goal, missed
  print bad ? "  NOT REPRODUCIBLE: the two runs differ" : "  the two runs agree"
  exit bad
}
