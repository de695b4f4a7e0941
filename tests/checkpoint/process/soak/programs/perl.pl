# Hashes, regular expressions and strings that grow.
use strict;
use warnings;
my ($steps) = @ARGV;
my ($state, $text, %words) = (1, "");
for my $step (1 .. $steps) {
  for (1 .. 20000) {
    $state = ($state * 1103515245 + 12345) % 2147483648;
    my $word = sprintf "w%x", $state % 30011;
    $words{$word}++;
    $text .= "$word ";
  }
  my $count = () = $text =~ /w[0-9a]+f /g;
  $text = substr $text, -400000 if length $text > 800000;
  my @most = (sort { $words{$b} <=> $words{$a} || $a cmp $b } keys %words)[0 .. 4];
  $| = $step % 2;
  print "$step $count ", scalar(keys %words), " @most\n";
}
