// Python's binary operators. Integers are 64 bits: what would not fit is an error, not a wrong number.
#include <array>
#include <charconv>
#include <cmath>

#include "runtime/tokenizer/jinja_machine.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot::jinja {
namespace {

[[noreturn]] void failTypes(std::string_view op, const Value &a, const Value &b) {
  fail(cat("unsupported operand type(s) for ", op, ": '", typeName(a), "' and '", typeName(b), "'"));
}
[[noreturn]] void failOverflow() { failUnsupported("an integer of more than 64 bits"); }

std::string escapeMarkup(const std::string &text) {
  std::string out;
  for (char c : text)
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&#34;";
      break;
    case '\'':
      out += "&#39;";
      break;
    default:
      out += c;
    }
  return out;
}

Value repeat(Machine &machine, const Value &what, int64_t times) {
  size_t count = times > 0 ? static_cast<size_t>(times) : 0;
  if (what.isString()) {
    const std::string &text = what.text();
    size_t total = 0;
    if (__builtin_mul_overflow(text.size(), count, &total))
      failLimit("a repeated string is too long");
    machine.meter.make(total);
    std::string out;
    out.reserve(total);
    for (size_t i = 0; i < count && !text.empty(); ++i)
      out += text;
    return Value::string(std::move(out), what.isMarkup());
  }
  const auto &sequence = what.as<Sequence>();
  size_t total = 0;
  if (__builtin_mul_overflow(sequence.items.size() * sizeof(Value), count, &total))
    failLimit("a repeated list is too long");
  machine.meter.make(total);
  std::vector<Value> items;
  for (size_t i = 0; i < count && !sequence.items.empty(); ++i)
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  return Value::sequence(std::move(items), sequence.flavor);
}

bool isRepeatable(const Value &value) {
  return value.isString() || value.isSequence(Flavor::LIST) || value.isSequence(Flavor::TUPLE);
}

int64_t floorDivide(int64_t a, int64_t b) {
  if (b == -1) {
    int64_t result = 0;
    if (__builtin_sub_overflow(int64_t{0}, a, &result))
      failOverflow();
    return result;
  }
  int64_t quotient = a / b;
  return quotient - ((a % b != 0) && ((a < 0) != (b < 0)));
}

double floorModulo(double a, double b) {
  double result = std::fmod(a, b);
  if (result != 0 && (result < 0) != (b < 0))
    result += b;
  return result == 0 ? std::copysign(0.0, b) : result;
}

Value power(const Value &a, const Value &b) {
  if (!a.isInteger() || !b.isInteger() || b.asInt() < 0) {
    if (a.asReal() == 0 && b.asReal() < 0)
      fail("0.0 cannot be raised to a negative power");
    double result = std::pow(a.asReal(), b.asReal());
    if (std::isnan(result) && !std::isnan(a.asReal()) && !std::isnan(b.asReal()))
      failUnsupported("a complex number");
    return Value::real(result);
  }
  int64_t result = 1;
  int64_t base = a.asInt();
  for (uint64_t exponent = static_cast<uint64_t>(b.asInt()); exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
      failOverflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
      failOverflow();
  }
  return Value::number(result);
}

Value numeric(std::string_view op, const Value &a, const Value &b) {
  bool divides = op == "/" || op == "//" || op == "%";
  if (divides && b.asReal() == 0)
    fail("division by zero");
  if (op == "**")
    return power(a, b);
  if (op == "/")
    return Value::real(a.asReal() / b.asReal());
  if (!a.isInteger() || !b.isInteger()) {
    double x = a.asReal();
    double y = b.asReal();
    if (op == "+")
      return Value::real(x + y);
    if (op == "-")
      return Value::real(x - y);
    if (op == "*")
      return Value::real(x * y);
    if (op == "//")
      return Value::real(std::floor((x - floorModulo(x, y)) / y + 0.5));
    return Value::real(floorModulo(x, y));
  }
  int64_t x = a.asInt();
  int64_t y = b.asInt();
  if (op == "//")
    return Value::number(floorDivide(x, y));
  if (op == "%")
    return Value::number(y == -1 ? 0 : x - floorDivide(x, y) * y);
  int64_t result = 0;
  bool overflows = op == "+"   ? __builtin_add_overflow(x, y, &result)
                   : op == "-" ? __builtin_sub_overflow(x, y, &result)
                               : __builtin_mul_overflow(x, y, &result);
  if (overflows)
    failOverflow();
  return Value::number(result);
}

} // namespace

Value add(Machine &machine, const Value &a, const Value &b) {
  if (a.isString() && b.isString()) {
    bool markup = a.isMarkup() || b.isMarkup();
    machine.meter.make(a.text().size() + b.text().size());
    if (!markup)
      return Value::string(a.text() + b.text());
    return Value::string(
        (a.isMarkup() ? a.text() : escapeMarkup(a.text())) + (b.isMarkup() ? b.text() : escapeMarkup(b.text())), true);
  }
  bool lists = a.isSequence(Flavor::LIST) && b.isSequence(Flavor::LIST);
  bool tuples = a.isSequence(Flavor::TUPLE) && b.isSequence(Flavor::TUPLE);
  if (!lists && !tuples)
    failTypes("+", a, b);
  std::vector<Value> items = iterate(machine.meter, a);
  for (Value &item : iterate(machine.meter, b))
    items.push_back(std::move(item));
  return Value::sequence(std::move(items), lists ? Flavor::LIST : Flavor::TUPLE);
}

Value binary(Machine &machine, std::string_view op, const Value &a, const Value &b) {
  if (op == "%" && a.isString())
    return Value::string(formatPercent(machine, a.text(), b));
  if (a.isUndefined() || b.isUndefined())
    fail((a.isUndefined() ? a : b).text());
  if (a.isNumber() && b.isNumber())
    return numeric(op, a, b);
  if (op == "+")
    return add(machine, a, b);
  if (op == "*" && isRepeatable(a) && b.isInteger())
    return repeat(machine, a, b.asInt());
  if (op == "*" && isRepeatable(b) && a.isInteger())
    return repeat(machine, b, a.asInt());
  failTypes(op, a, b);
}

namespace {

struct Conversion {
  bool left = false;
  bool plus = false;
  bool space = false;
  bool zero = false;
  size_t width = 0;
  int precision = -1;
  char type = 0;
};

std::string convert(Machine &machine, const Conversion &spec, const Value &value) {
  std::string digits;
  bool isNumber = true;
  if (spec.type == 's' || spec.type == 'r') {
    isNumber = false;
    digits = spec.type == 's' ? toText(machine.meter, value) : toRepr(machine.meter, value);
    if (spec.precision >= 0) {
      std::u32string points = decode(machine.meter, digits);
      digits = encode(machine.meter, std::u32string_view(points).substr(0, static_cast<size_t>(spec.precision)));
    }
  } else if (!value.isNumber()) {
    fail(cat("%", std::string(1, spec.type), " format: a number is required, not ", typeName(value)));
  } else if (spec.type == 'd' || spec.type == 'i') {
    if (value.is(Kind::FLOAT) && !(std::abs(value.asReal()) < 9e18))
      failOverflow();
    digits = std::to_string(value.is(Kind::FLOAT) ? static_cast<int64_t>(value.asReal()) : value.asInt());
  } else {
    std::array<char, 512> buffer;
    int precision = spec.precision < 0 ? 6 : spec.precision;
    auto format = spec.type == 'f'   ? std::chars_format::fixed
                  : spec.type == 'e' ? std::chars_format::scientific
                                     : std::chars_format::general;
    auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value.asReal(), format, precision);
    if (error != std::errc())
      failLimit("a formatted number is too long");
    digits.assign(buffer.data(), end);
  }
  if (isNumber && digits[0] != '-')
    digits.insert(0, spec.plus ? "+" : spec.space ? " " : "");
  size_t size = utf8::countCodePoints(digits);
  if (size >= spec.width)
    return digits;
  size_t padding = spec.width - size;
  machine.meter.make(padding);
  if (spec.left)
    return digits + std::string(padding, ' ');
  if (spec.zero && isNumber)
    return digits.insert(digits[0] == '-' || digits[0] == '+' || digits[0] == ' ' ? 1 : 0, padding, '0');
  return std::string(padding, ' ') + digits;
}

} // namespace

std::string formatPercent(Machine &machine, std::string_view format, const Value &values) {
  std::vector<Value> arguments = values.isSequence(Flavor::TUPLE) ? values.as<Sequence>().items : std::vector{values};
  size_t used = 0;
  bool named = false;
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    ++i;
    if (i < format.size() && format[i] == '%') {
      out.push_back('%');
      continue;
    }
    const Value *value = nullptr;
    if (i < format.size() && format[i] == '(') {
      size_t end = format.find(')', i);
      if (end == std::string_view::npos || !values.isDict())
        fail("format requires a mapping");
      value = lookup(machine.meter, values.as<Dict>(), Value::string(std::string(format.substr(i + 1, end - i - 1))));
      if (!value)
        fail("format names a key that the mapping does not have");
      named = true;
      i = end + 1;
    }
    Conversion spec;
    for (; i < format.size(); ++i)
      if (format[i] == '-')
        spec.left = true;
      else if (format[i] == '+')
        spec.plus = true;
      else if (format[i] == ' ')
        spec.space = true;
      else if (format[i] == '0')
        spec.zero = true;
      else
        break;
    auto number = [&] {
      size_t parsed = 0;
      for (; i < format.size() && format[i] >= '0' && format[i] <= '9'; ++i) {
        parsed = parsed * 10 + static_cast<size_t>(format[i] - '0');
        if (parsed > 10'000)
          failLimit("a format is wider than 10000");
      }
      return parsed;
    };
    spec.width = number();
    if (i < format.size() && format[i] == '.') {
      ++i;
      spec.precision = static_cast<int>(number());
    }
    if (i >= format.size())
      fail("incomplete format");
    spec.type = format[i];
    if (std::string_view("sdirfeg").find(spec.type) == std::string_view::npos)
      failUnsupported(cat("the format %", format.substr(i, utf8::first(format.substr(i)).bytes)));
    if (!value) {
      if (used >= arguments.size())
        fail("not enough arguments for format string");
      value = &arguments[used++];
    }
    out += convert(machine, spec, *value);
    machine.meter.step();
  }
  if (!named && used < arguments.size() && !values.isDict())
    fail("not all arguments converted during string formatting");
  machine.meter.make(out.size());
  return out;
}

} // namespace ingot::jinja
