struct MultigridMemory {
  void lay_out(int, int, Arena&) {}
};
