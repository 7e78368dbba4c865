// Writes a million lines of 100 bytes to stdout, buffered.
#include <stdio.h>
#include <string.h>
int main(void) {
  static char buffer[65536], line[100];
  memset(line, 'x', 99);
  line[99] = '\n';
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  for (int i = 0; i < 1000000; i++) fwrite(line, 1, sizeof line, stdout);
  return 0;
}
