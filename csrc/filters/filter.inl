// What a filter is. A struct that derives from Filter, with
//   kName      its name in Python's table;
//   declare    names each of its parameters, which are members, once, with its range; these are filled before the rest;
//   lay_out    takes memory: what the image needs from `shared`, what each member of the team needs from `own`;
//   reach      says how many rows above and below one it needs;
//   prepare    tables, or what needs the whole image; every member calls it before the walk of each round;
//   row        adds `weight` times its result to a row's sum.
// Nothing but `declare` and `reach` is called for a filter without weight.

// The image as a round finds it.
struct Frame {
  int h, w;
  Plane state;        // this round's picture; its rows carry a reflected halo
  Plane spare;        // where the next one will go; until the walk `prepare` may use it
  const Team& team;
  WlsInfo* info;
  int end;            // of the rows that are walked
  const Strip* strip; // of a window on a web
  int round;
};

constexpr int kRing = 16;  // rows kept of what a tile derives: >= 2 * kMaxRadius + 1
constexpr int kRowFloats = kStrip + 64 + 4 * kHalo + 16;  // whole blocks past the strip, halo and margin on both sides

// One row of a tile. Rows of a tile come in order, from its first.
struct Row {
  int y, top;         // this row and the first
  int x0, x1;         // columns, in whole 16s
  float* acc;         // the sum so far, by image column

  // Rows of a member's own memory (kRowFloats, or kRing of them), by image column.
  float* own(float* base) const { return base + 2 * kHalo - x0; }
  float* ring(float* base, int at) const { return own(base) + (at & (kRing - 1)) * kRowFloats; }
};

inline void add_to(float* acc, int x, vf v) { store(acc + x, load(acc + x) + v); }

struct Filter {
  static constexpr bool kSpare = false;  // whether `prepare` uses Frame::spare
  constexpr void declare(auto&& /*visit*/) {}
  void lay_out(int /*h*/, int /*w*/, Arena& /*shared*/, Arena& /*own*/) {}
  int reach(bool /*of_web*/) const { return 0; }
  void prepare(const Frame&) {}
};

// ---- declarations of parameters ------------------------------------------------------------------------

constexpr Parameter within(double low, double high, double usual) { return {.low = low, .high = high, .usual = usual}; }
constexpr Parameter above(double low, double high, double usual) {
  return {.low = low, .high = high, .usual = usual, .above = true};
}
constexpr Parameter odd_window() { return {.low = 3.0, .high = 2.0 * kMaxRadius + 1.0, .usual = 7.0, .odd = true}; }
template <class... Name>
constexpr Parameter one_of(Name... names) {
  return {.choices = {names...}};
}

// Sets the members of a filter from values in the order of their declaration.
struct Fill {
  const double*& next;
  template <class T>
  void operator()(T& member, const char*, const Parameter&) const {
    member = static_cast<T>(*next++);
  }
};

// Lists the declarations.
struct Describe {
  FilterInfo& to;
  template <class T>
  constexpr void operator()(T&, const char* name, Parameter parameter) const {
    parameter.name = name;
    parameter.kind = std::is_enum_v<T> ? "choice" : std::is_integral_v<T> ? "integer" : "real";
    to.parameters[to.count++] = parameter;
  }
};

template <class F>
constexpr FilterInfo describe() {
  FilterInfo info{F::kName};
  F{}.declare(Describe{info});
  return info;
}
