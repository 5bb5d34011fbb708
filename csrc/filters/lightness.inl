// CIE lightness L* / 100 of a grey sRGB intensity, and back (IEC 61966-2-1; CIE 1976).

// x^e for x > 0; what is not a normal number counts as the least that is.
inline vf pow_positive(vf x, float e) { return exp2v(e * log2v(vmax(x, splat(1.17549435e-38f)))); }

inline vf lightness(vf v) {
  const vf linear = v <= 0.04045f ? v / 12.92f : pow_positive((v + 0.055f) / 1.055f, 2.4f);
  return linear <= 216.0f / 24389.0f ? linear * (24389.0f / 2700.0f)
                                     : 1.16f * pow_positive(linear, 1.0f / 3.0f) - 0.16f;
}

inline vf from_lightness(vf l) {
  const vf root = (l + 0.16f) / 1.16f;
  const vf linear = l <= 0.08f ? l * (2700.0f / 24389.0f) : root * root * root;
  return linear <= 0.0031308f ? linear * 12.92f : 1.055f * pow_positive(linear, 1.0f / 2.4f) - 0.055f;
}
