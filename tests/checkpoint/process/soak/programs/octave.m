% Matrices, by as many threads as the library of linear algebra likes.
steps = str2num(argv(){1});
a = reshape(mod((1:360000) * 7919, 1009), 600, 600) / 1009;
b = eye(600);
for step = 1:steps
  b = a * b;
  b = b / norm(b, "fro");
  [q, r] = qr(b + step * eye(600));
  b = q * (r / norm(r, 1));
  e = sort(abs(eig(b(1:120, 1:120))));
  printf("%d %.6f %.6f\n", step, e(1), e(120));
  if mod(step, 2) == 0
    fflush(stdout);
  endif
endfor
