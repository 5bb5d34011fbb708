// The exact median of a square window, by minima and maxima alone (cf. Adams 2021, separable sorting networks).
//
// Rows go in pairs, which share the 2R rows that are in the windows of both. Every column of these is sorted, and
// sorted columns are merged to lists of 2, 4 and 8 neighbouring ones: each is in many windows, and made once. A
// window's shared pixels are put together from such lists. Of these pixels only 2R + 2 in the middle can be the median,
// and decide it with the row that is the window's own, sorted in the same way.

// The smaller of `a` and `b` goes to `low`, the larger to `high`; -1 if nobody asks. All are places in the block below,
// a row's columns being those of the windows' left sides.
struct Exchange {
  int a, b, low, high;
};

constexpr int kBlock = 128;                // columns done together
constexpr int kBlockStride = kBlock + 16;  // the windows of the last one reach 2R further
constexpr int kBlockRows = 256;            // 15 x 15 needs so many
constexpr int kMostExchanges = 1914;       // and so many

// What to compare with what, for windows of radius R: rows 0 to 2R - 1 of the block are those of both windows, 2R and
// 2R + 1 the upper and the lower window's own.
class Sorter {
 public:
  int wide = 0, count = 0;  // exchanges that are of all columns, and all
  int median[2];            // places of the results
  Exchange exchange[kMostExchanges];

  void build(int radius) {
    const int width = 2 * radius + 1;
    wide = count = 0;
    rows_ = width + 1;
    List lists[3][4];  // of both, the upper and the lower; of 2^k columns
    const int first[] = {0, width - 1, width, width + 1};
    for (int k = 0; k < 3; ++k) {
      List column;
      for (int row = first[k]; row < first[k + 1]; ++row) column.push({row * kBlockStride, true});
      lists[k][0] = sort(column);
      for (int i = 1; 1 << i <= width; ++i) {
        const List left = lists[k][i - 1].moved(0, false), right = left.moved(1 << (i - 1), false);
        lists[k][i] = merge(left, right);
      }
    }
    wide = count;
    List window[3];
    for (int k = 0; k < 3; ++k)
      for (int i = 0, column = 0; 1 << i <= width; ++i)
        if (width >> i & 1) {
          window[k] = merge(window[k], lists[k][i].moved(column, true));
          column += 1 << i;
        }
    const int outer = (window[0].n - (width + 1)) / 2;
    for (int k = 1; k < 3; ++k) {
      const List all = window[0].moved(0, k == 2);
      median[k - 1] = merge({all.wire + outer, width + 1, 1}, window[k]).wire[width].at;
    }
    drop_unused();
  }

 private:
  int rows_ = 0;

  struct Wire {
    int at;      // the place of a value
    bool spent;  // nobody else needs what is there
  };
  // Every `step`-th of some wires, whose values ascend.
  struct Wires {
    const Wire* wire;
    int n, step;
    Wires half(int from) const { return {wire + from * step, (n + 1 - from) / 2, 2 * step}; }
    const Wire& operator[](int k) const { return wire[k * step]; }
  };
  struct List {
    int n = 0;
    Wire wire[2 * kMaxRadius * (2 * kMaxRadius + 1)];
    void push(Wire w) { wire[n++] = w; }
    operator Wires() const { return {wire, n, 1}; }
    List moved(int columns, bool spent) const {
      List out;
      for (int k = 0; k < n; ++k) out.push({wire[k].at + columns, spent});
      return out;
    }
  };

  List sort(const Wires& w) {
    const int half = w.n / 2;
    if (half > 0) return merge(sort({w.wire, half, 1}), sort({w.wire + half, w.n - half, 1}));
    List out;
    out.push(w[0]);
    return out;
  }

  // Odd-even merging (Batcher 1968), for any two lengths.
  List merge(const Wires& a, const Wires& b) {
    List out;
    if (a.n == 1 && b.n == 1) {
      compare(a[0], b[0], out);
    } else if (a.n == 0 || b.n == 0) {
      for (int k = 0; k < a.n + b.n; ++k) out.push(b.n == 0 ? a[k] : b[k]);
    } else {
      const List even = merge(a.half(0), b.half(0)), odd = merge(a.half(1), b.half(1));
      out.push(even.wire[0]);
      for (int k = 0; out.n < a.n + b.n; ++k) {
        if (k == odd.n)
          out.push(even.wire[k + 1]);
        else if (k + 1 == even.n)
          out.push(odd.wire[k]);
        else
          compare(odd.wire[k], even.wire[k + 1], out);
      }
    }
    return out;
  }

  void compare(const Wire& a, const Wire& b, List& out) {
    const auto place = [this](const Wire& w) { return w.spent ? w.at : rows_++ * kBlockStride; };
    const int low = place(a), high = place(b);
    exchange[count++] = {a.at, b.at, low, high};
    out.push({low, true});
    out.push({high, true});
  }

  void drop_unused() {
    bool needed[kBlockRows] = {};
    for (const int at : median) needed[at / kBlockStride] = true;
    for (int k = count - 1; k >= 0; --k) {
      Exchange& e = exchange[k];
      bool &low = needed[e.low / kBlockStride], &high = needed[e.high / kBlockStride];
      if (!low) e.low = -1;
      if (!high) e.high = -1;
      const bool any = low || high;
      low = high = false;
      if (any) needed[e.a / kBlockStride] = needed[e.b / kBlockStride] = true;
    }
    const auto idle = [](const Exchange& e) { return e.low < 0 && e.high < 0; };
    const auto end_wide = std::remove_if(exchange, exchange + wide, idle);
    const auto end = std::copy_if(exchange + wide, exchange + count, end_wide, [&](const auto& e) { return !idle(e); });
    wide = static_cast<int>(end_wide - exchange);
    count = static_cast<int>(end - exchange);
  }
};

struct Median : Filter {
  static constexpr const char* kName = "median";
  int window;
  constexpr void declare(auto&& visit) {
    visit(window, "window", odd_window());
  }
  Sorter* sorter;
  bool built = false;
  float* block;  // kBlockRows rows
  float* lower;  // results of the pair's lower row

  void lay_out(int, int, Arena&, Arena& own) {
    sorter = own.take<Sorter>(1);
    block = own.take<float>(kBlockRows * kBlockStride);
    lower = own.take<float>(kRowFloats);
  }

  int reach(bool) const { return window / 2; }

  void prepare(const Frame&) {
    if (!built) sorter->build(window / 2);
    built = true;
  }

  void row(const Frame& frame, const Row& r, float weight) {
    float* const second = r.own(lower);
    if ((r.y - r.top) % 2 != 0) {
      for (int x = r.x0; x < r.x1; x += VL) add_to(r.acc, x, weight * load(second + x));
      return;
    }
    const int radius = window / 2;
    for (int x0 = r.x0; x0 < r.x1; x0 += kBlock) {
      const int width = std::min(kBlock, r.x1 - x0), wide = round_up(width + 2 * radius, 16);
      for (int k = 0; k < 2 * radius + 2; ++k) {
        const int dy = k < 2 * radius ? k + 1 - radius : k == 2 * radius ? -radius : radius + 1;
        const float* from = frame.state.row(reflect(r.y + dy, frame.h)) + x0 - radius;
        for (int x = 0; x < wide; x += VL) store(block + k * kBlockStride + x, load(from + x));
      }
      run(0, sorter->wide, wide);
      run(sorter->wide, sorter->count, width);
      for (int x = 0; x < width; x += VL) {
        add_to(r.acc, x0 + x, weight * load(block + sorter->median[0] + x));
        store(second + x0 + x, load(block + sorter->median[1] + x));
      }
    }
  }

 private:
  void run(int first, int end, int width) {
    for (int k = first; k < end; ++k) {
      const Exchange e = sorter->exchange[k];
      const float *a = block + e.a, *b = block + e.b;
      float *low = block + e.low, *high = block + e.high;
      const auto columns = [&](auto&& f) {
        for (int x = 0; x < width; x += 16)
          for (int i = x; i < x + 16; i += VL) f(i, load(a + i), load(b + i));
      };
      if (e.high < 0)
        columns([&](int x, vf v, vf w) { store(low + x, vmin(v, w)); });
      else if (e.low < 0)
        columns([&](int x, vf v, vf w) { store(high + x, vmax(v, w)); });
      else
        columns([&](int x, vf v, vf w) { store(low + x, vmin(v, w)), store(high + x, vmax(v, w)); });
    }
  }
};
