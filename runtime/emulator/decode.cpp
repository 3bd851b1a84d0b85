// From machine code to operations, with LLVM's disassembler. What an instruction means is looked up by its mnemonic
// (the ISA manual's name, the same for all encodings), where its operands are follows from the form in the table and
// from the operand kinds of the MCInst. Modifiers, DPP, clamps and half registers become operations of their own.
#include "runtime/emulator/decode.h"

#include "llvm/MC/MCAsmInfo.h"
#include "llvm/MC/MCContext.h"
#include "llvm/MC/MCDisassembler/MCDisassembler.h"
#include "llvm/MC/MCExpr.h"
#include "llvm/MC/MCInst.h"
#include "llvm/MC/MCInstPrinter.h"
#include "llvm/MC/MCInstrDesc.h"
#include "llvm/MC/MCInstrInfo.h"
#include "llvm/MC/MCRegisterInfo.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/MCTargetOptions.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Triple.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_map>

extern "C" {
void LLVMInitializeAMDGPUTargetInfo(void);
void LLVMInitializeAMDGPUTargetMC(void);
void LLVMInitializeAMDGPUDisassembler(void);
}

namespace ingot::emu {

namespace {

// LLVM's tables for one chip. They are built once; a lock keeps one user at a time, for the context allocates.
struct Disassembler {
  std::mutex busy;
  std::unique_ptr<llvm::MCRegisterInfo> registers;
  llvm::MCTargetOptions options;
  std::unique_ptr<llvm::MCAsmInfo> assembly;
  std::unique_ptr<llvm::MCSubtargetInfo> subtarget;
  std::unique_ptr<llvm::MCInstrInfo> instructions;
  std::unique_ptr<llvm::MCContext> context;
  std::unique_ptr<llvm::MCDisassembler> decoder;
  std::unique_ptr<llvm::MCInstPrinter> printer;
  int modifierType = -1; // OperandType of the word of input modifiers: its number is private to LLVM
  std::unordered_map<std::string, const Entry *> entries;
};

std::string create(Disassembler &d, const ChipInfo &chip) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeAMDGPUTargetInfo();
    LLVMInitializeAMDGPUTargetMC();
    LLVMInitializeAMDGPUDisassembler();
  });
  llvm::Triple triple("amdgcn-amd-amdhsa");
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return "LLVM has no AMDGPU target: " + error;
  d.registers.reset(target->createMCRegInfo(triple));
  d.assembly.reset(target->createMCAsmInfo(*d.registers, triple, d.options));
  // Half registers are always modelled: code made without them reads the same, and the disassembler needs the feature
  // to see the high-half bits of the encoding.
  d.subtarget.reset(target->createMCSubtargetInfo(triple, llvm::StringRef(chip.name), "+real-true16"));
  d.instructions.reset(target->createMCInstrInfo());
  if (!d.registers || !d.assembly || !d.subtarget || !d.instructions)
    return "LLVM cannot set up " + std::string(chip.name);
  d.context = std::make_unique<llvm::MCContext>(triple, d.assembly.get(), d.registers.get(), d.subtarget.get());
  d.decoder.reset(target->createMCDisassembler(*d.subtarget, *d.context));
  d.printer.reset(target->createMCInstPrinter(triple, 0, *d.assembly, *d.instructions, *d.registers));
  if (!d.decoder || !d.printer)
    return "LLVM cannot disassemble " + std::string(chip.name);
  for (unsigned i = 0; i < d.instructions->getNumOpcodes(); ++i)
    if (d.instructions->getName(i) == "V_ADD_F32_e64_gfx11")
      d.modifierType = d.instructions->get(i).operands()[1].OperandType;
  return d.modifierType < 0 ? "LLVM's instruction names are not as expected" : "";
}

void addEntries(Disassembler &d, const ChipInfo &chip, std::span<const Entry> entries) {
  for (const Entry &e : entries) {
    if (e.form == Form::wmma && (e.detail & 1) != (chip.generation >= 12))
      continue;
    // Suffixes such as "_clamp" apply to each alternative.
    std::string_view names = e.names;
    while (!names.empty()) {
      size_t bar = names.find('|');
      d.entries.emplace(std::string(names.substr(0, bar)), &e);
      names = bar == names.npos ? std::string_view() : names.substr(bar + 1);
    }
  }
}

Disassembler *disassemblerFor(const ChipInfo &chip, const Executor &executor, std::string &error) {
  static std::mutex lock;
  static std::map<std::string, std::unique_ptr<Disassembler>> known;
  std::lock_guard<std::mutex> guard(lock);
  auto &slot = known[std::string(chip.name)];
  if (!slot) {
    auto made = std::make_unique<Disassembler>();
    error = create(*made, chip);
    if (!error.empty())
      return nullptr;
    for (std::span<const Entry> table : executor.tables)
      addEntries(*made, chip, table);
    slot = std::move(made);
  }
  return slot.get();
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }
bool startsWith(std::string_view text, std::string_view part) { return text.substr(0, part.size()) == part; }
void removePart(std::string &text, std::string_view part) {
  if (size_t at = text.find(part); at != text.npos)
    text.erase(at, part.size());
}

constexpr uint32_t temporaries = 10; // two registers for each of three sources, two for a result, one for VOPD

class Decoder {
public:
  Decoder(const ChipInfo &chip, const Executor &executor, Disassembler &d, bool poison, ProgramCode &code)
      : chip(chip), micro(executor.micro), d(d), poison(poison), code(code) {}

  bool run(Fault &fault);

private:
  struct Raw {
    llvm::MCInst inst;
    uint32_t pc, bytes;
    std::string name; // without encoding suffixes
    bool leader = false;
  };
  struct Source {
    int32_t offset = 0;
    uint8_t mods = 0;
    bool high = false;
    bool constant = false;
    uint32_t value = 0;
  };
  struct Dpp {
    bool present = false, eight = false;
    uint32_t control = 0, masks = 0;
  };

  const ChipInfo &chip;
  const Micro &micro;
  Disassembler &d;
  bool poison;
  ProgramCode &code;
  uint32_t registers = 0; // allocated by the descriptor
  int32_t sink = 0;       // where writes to NULL go
  std::map<std::pair<uint32_t, uint32_t>, int32_t> constantAt;
  std::map<std::pair<uint32_t, uint32_t>, int32_t> wideAt;
  std::string problem;                            // of the instruction being decoded
  Use use;                                        // likewise
  std::vector<std::pair<size_t, uint32_t>> jumps; // operation, pc of its target

  bool parseDescriptor();
  bool emit(const Raw &raw);
  bool emitOne(const Raw &raw, const Entry &e, const std::string &name);
  bool emitValu(const Raw &raw, const Entry &e);
  bool emitDual(const Raw &raw);
  bool emitScalar(const Raw &raw, const Entry &e);
  bool emitVectorMemory(const Raw &raw, const Entry &e, std::string_view prefix, const std::string &name);
  bool emitMatrix(const Raw &raw, const Entry &e);
  void build(const Entry &e, Op op, Source *s, unsigned count, bool resultHigh, bool clamp, uint32_t omod,
             const Dpp &dpp);

  llvm::StringRef record(const Raw &raw) const { return d.instructions->getName(raw.inst.getOpcode()); }
  const llvm::MCInstrDesc &desc(const Raw &raw) const { return d.instructions->get(raw.inst.getOpcode()); }
  bool isTied(const Raw &raw, unsigned i) const { return desc(raw).getOperandConstraint(i, llvm::MCOI::TIED_TO) >= 0; }
  bool isModifier(const Raw &raw, unsigned i) const {
    return i < desc(raw).getNumOperands() && desc(raw).operands()[i].OperandType == d.modifierType;
  }
  unsigned encoding(const llvm::MCOperand &o) const { return d.registers->getEncodingValue(o.getReg()); }
  bool isVector(const llvm::MCOperand &o) const { return o.isReg() && (encoding(o) & 0x400); }

  int32_t vectorAt(uint32_t index) const { return int32_t(code.vectorBase + 128 * index); }
  int32_t temporary(uint32_t i) const { return vectorAt(registers + i); }
  int32_t scalarAt(uint32_t index) const { return int32_t(offsetof(Wave, s) + 4 * index); }
  int32_t constant(uint32_t low) {
    auto [it, isNew] = constantAt.try_emplace({low, 0}, 0);
    if (isNew)
      it->second = addWords({low});
    return it->second;
  }
  int32_t wideConstant(uint64_t v) {
    auto [it, isNew] = wideAt.try_emplace({uint32_t(v), uint32_t(v >> 32)}, 0);
    if (isNew)
      it->second = addWords({uint32_t(v), uint32_t(v >> 32)});
    return it->second;
  }
  int32_t addWords(std::vector<uint32_t> words) {
    int32_t at = int32_t(code.vectorBase + 128 * code.vectorRegisters + 4 * code.constants.size());
    code.constants.insert(code.constants.end(), words.begin(), words.end());
    return at;
  }
  int32_t vectorRegister(const llvm::MCOperand &o, uint32_t words) {
    uint32_t index = encoding(o) & 0xff;
    if (index + words > registers)
      problem = "uses v" + std::to_string(index + words - 1) + " but the kernel has " + std::to_string(registers) +
                " vector registers";
    return vectorAt(index);
  }
  // A destination register of either kind.
  int32_t destination(const llvm::MCOperand &o, uint32_t words) {
    if (!o.isReg()) {
      problem = "no destination register";
      return sink;
    }
    uint32_t e = encoding(o);
    if ((e & 0x400) == 0 && (e & 0xff) == sreg::null)
      return sink;
    noteUse(use.writes, e, words);
    return e & 0x400 ? vectorRegister(o, words) : scalarAt(e & 0xff);
  }
  static void noteUse(std::vector<Use::Registers> &list, uint32_t encoding, uint32_t words) {
    uint32_t first = (encoding & 0xff) + (encoding & 0x400 ? 0 : 256);
    list.push_back({first, std::min(words, (encoding & 0x400 ? 256 : 512) - first)});
  }
  bool immediate(const llvm::MCOperand &o, int64_t &v) const {
    if (o.isImm()) {
      v = o.getImm();
      return true;
    }
    return o.isExpr() && o.getExpr()->evaluateAsAbsolute(v);
  }
  Source source(const llvm::MCOperand &o, Type type, uint32_t words = 0);
  Dpp takeDpp(const Raw &raw, std::vector<int64_t> &trailing);
  void add(Op op) {
    code.ops.push_back(op);
    code.instructionOf.push_back(uint32_t(code.instructions.size() - 1));
  }
  void addMicro(Handler run, int32_t to, int32_t from, uint8_t mods = 0, uint32_t imm = 0, uint32_t imm2 = 0) {
    Op op{};
    op.run = run;
    op.d = to;
    op.s[0] = from;
    op.mods[0] = mods;
    op.imm = imm;
    op.imm2 = imm2;
    add(op);
  }
};

// Converts a register or a constant to an offset; constants of a kind become words behind the vector registers.
Decoder::Source Decoder::source(const llvm::MCOperand &o, Type type, uint32_t words) {
  Source s;
  if (words == 0)
    words = is64(type) ? 2 : 1;
  if (o.isReg()) {
    uint32_t e = encoding(o);
    s.high = e & 0x1000;
    noteUse(use.reads, e, words);
    if (e & 0x400)
      s.offset = vectorRegister(o, words);
    else if ((e & 0xff) == sreg::null && words > 1)
      s.offset = wideConstant(0) | 1;
    else
      s.offset = scalarAt(e & 0xff) | 1;
    return s;
  }
  int64_t v = 0;
  if (!immediate(o, v)) {
    problem = "an operand is neither register nor number";
    return s;
  }
  if (is64(type)) {
    // A 32-bit literal of a double is its high half; small integers and full patterns are what they are.
    if (type == Type::f64 && (v > 64 || v < -16) && (uint64_t(v) >> 32 == 0 || uint64_t(v) >> 31 == 0x1ffffffffull))
      v = int64_t(uint64_t(v) << 32);
    s.offset = wideConstant(uint64_t(v)) | 1;
    return s;
  }
  // An inline float constant that arrives as a double (seen for matrix accumulators).
  if (v > int64_t(UINT32_MAX) || v < INT32_MIN)
    v = __builtin_bit_cast(uint32_t, float(__builtin_bit_cast(double, v)));
  uint32_t bits = uint32_t(v);
  if (is16(type))
    bits &= 0xffff;
  s.constant = true;
  s.value = bits;
  s.offset = constant(bits) | 1;
  return s;
}

// The DPP words are the last of the trailing immediates.
Decoder::Dpp Decoder::takeDpp(const Raw &raw, std::vector<int64_t> &trailing) {
  Dpp dpp;
  llvm::StringRef name = record(raw);
  if (name.contains("_dpp8")) {
    if (trailing.size() < 2) {
      problem = "DPP8 words are missing";
      return dpp;
    }
    dpp.present = dpp.eight = true;
    dpp.control = uint32_t(trailing[trailing.size() - 2]);
    dpp.masks = (trailing.back() == 234 || trailing.back() == 1) ? 0x200 : 0;
    trailing.resize(trailing.size() - 2);
  } else if (name.contains("_dpp")) {
    if (trailing.size() < 5) {
      problem = "DPP words are missing";
      return dpp;
    }
    const int64_t *t = &trailing[trailing.size() - 5];
    dpp.present = true;
    dpp.control = uint32_t(t[0]);
    dpp.masks = uint32_t(t[1] & 15) | uint32_t(t[2] & 15) << 4 | uint32_t(t[3] & 1) << 8 | uint32_t(t[4] & 1) << 9;
    if (dpp.control >= 0x170)
      problem = "unknown DPP control";
    trailing.resize(trailing.size() - 5);
  }
  return dpp;
}

// Adds the operation, with micro-operations before and after it as modifiers ask.
void Decoder::build(const Entry &e, Op op, Source *s, unsigned count, bool resultHigh, bool clamp, uint32_t omod,
                    const Dpp &dpp) {
  if (dpp.present) {
    addMicro(dpp.eight ? micro.dpp8 : micro.dpp, temporary(0), s[0].offset, 0, dpp.control, dpp.masks);
    s[0].offset = temporary(0);
    s[0].constant = false;
  }
  for (unsigned i = 0; i < count; ++i) {
    Type t = e.sources[i];
    int32_t to = temporary(2 * i);
    auto apply = [&](Handler run, uint8_t mods) {
      addMicro(run, to, s[i].offset, mods);
      s[i].offset = to;
    };
    if (e.form == Form::mix) {
      if (s[i].mods)
        apply(micro.modMix, s[i].mods);
    } else if (e.form == Form::permlane16 || t == Type::mask) {
      op.mods[i < 3 ? i : 0] = s[i].mods;
    } else if (e.form == Form::dotInteger) {
      if (t == Type::f32 && (s[i].mods & 3) && i < 2)
        apply(micro.modF32, s[i].mods & 3);
      if (i < 3)
        op.mods[i] = uint8_t(s[i].mods | (s[i].high ? 4 : 0));
    } else if (t == Type::packed || t == Type::packedF16 || t == Type::packedBf16) {
      if (s[i].mods == 8)
        continue;
      if (s[i].constant) {
        uint32_t v = s[i].value, low = s[i].mods & 4 ? v >> 16 : v & 0xffff,
                 high = s[i].mods & 8 ? v >> 16 : v & 0xffff;
        v = low | high << 16;
        v ^= (s[i].mods & 1 ? 0x8000u : 0u) ^ (s[i].mods & 2 ? 0x80000000u : 0u);
        s[i].offset = constant(v) | 1;
      } else {
        apply(micro.modPacked, s[i].mods);
      }
    } else if (is16(t)) {
      uint8_t mods = uint8_t((s[i].mods & 3) | (s[i].high || (s[i].mods & 4) ? 4 : 0));
      if (mods)
        apply(micro.modF16, mods);
    } else if (s[i].mods & 3) {
      apply(is64(t) ? micro.modF64 : micro.modF32, s[i].mods & 3);
    }
  }
  for (unsigned i = 0; i < 4; ++i)
    op.s[i] = i < count ? s[i].offset : op.s[i];
  int32_t to = op.d;
  bool finish = clamp || omod || (is16(e.result) && resultHigh);
  if (finish)
    op.d = temporary(6);
  add(op);
  if (finish) {
    uint8_t mods = resultHigh ? 8 : 0;
    if (!clamp && !omod)
      addMicro(micro.copyHalf, to, op.d, mods);
    else
      addMicro(is16(e.result)          ? micro.clampF16
               : e.result == Type::f64 ? micro.clampF64
                                       : micro.clampF32,
               to, op.d, mods, clamp, omod);
  }
  if (dpp.present && !(e.form == Form::compare && op.d == scalarAt(sreg::exec)))
    addMicro(micro.restoreExec, 0, 0);
}

bool Decoder::emitValu(const Raw &raw, const Entry &entry) {
  const Entry *e = &entry;
  const llvm::MCInst &inst = raw.inst;
  unsigned defs = desc(raw).getNumDefs(), n = inst.getNumOperands();
  Source s[4];
  unsigned count = 0;
  std::vector<int64_t> trailing;
  uint8_t pending = 0;
  bool hasPending = false;
  uint8_t resultMods = 0;
  Op op{};
  op.run = e->run;
  op.detail = e->detail;

  // The accumulator of v_fmac and its like is the last source and tied; `old` of DPP comes first and is no source.
  llvm::StringRef rec = record(raw);
  bool isDpp = rec.contains("_dpp");
  for (unsigned i = defs; i < n; ++i) {
    const llvm::MCOperand &o = inst.getOperand(i);
    if (isModifier(raw, i) && o.isImm()) {
      pending = uint8_t(o.getImm());
      hasPending = true;
      if (count == 0)
        resultMods = pending;
      continue;
    }
    bool tied = isTied(raw, i);
    // A tied operand that precedes the sources is DPP's old value; after them, op_sel's or d16's.
    if (tied && ((isDpp && count == 0) || count >= e->sourceCount))
      continue;
    if (count < e->sourceCount) {
      const llvm::MCOperand &actual =
          tied ? inst.getOperand(unsigned(desc(raw).getOperandConstraint(i, llvm::MCOI::TIED_TO))) : o;
      s[count] = source(actual, e->sources[count]);
      bool isPacked = e->sources[count] == Type::packed || e->sources[count] == Type::packedF16 ||
                      e->sources[count] == Type::packedBf16;
      s[count].mods = hasPending ? pending : 0;
      // Without modifiers (VOP2), and where VOP3 modifiers know no halves, both halves are in their place.
      if (isPacked &&
          (!hasPending || startsWith(raw.name, "v_dot2_f16_f16") || startsWith(raw.name, "v_dot2_bf16_bf16")))
        s[count].mods |= 8;
      hasPending = false;
      pending = 0;
      ++count;
      continue;
    }
    int64_t v;
    if (immediate(o, v))
      trailing.push_back(v);
  }
  // A lane mask that the encoding implies is VCC; an accumulator that is not listed is the destination.
  while (count < e->sourceCount) {
    if (e->sources[count] == Type::mask) {
      s[count++].offset = scalarAt(sreg::vcc) | 1;
      continue;
    }
    if (defs == 0) {
      problem = "too few operands";
      return false;
    }
    s[count] = source(inst.getOperand(0), e->sources[count]);
    if (e->sources[count] == Type::packed || e->sources[count] == Type::packedF16 ||
        e->sources[count] == Type::packedBf16)
      s[count].mods = 8;
    ++count;
  }
  Dpp dpp;
  if (isDpp)
    dpp = takeDpp(raw, trailing);
  bool selectsByte = e->form == Form::dotInteger && contains(raw.name, "_cvt_") && !contains(raw.name, "_pk_");
  bool clamp =
      !trailing.empty() && trailing[0] == 1 && !selectsByte && e->form != Form::permlane16 && e->form != Form::lane;
  uint32_t omod = 0;
  bool floatResult = e->result == Type::f32 || e->result == Type::f16 || e->result == Type::f64 || e->form == Form::mix;
  if (floatResult && trailing.size() > 1 && e->form != Form::dotInteger)
    omod = uint32_t(trailing[1]) & 3;
  // Saturating forms of integer and packed operations are entries of their own.
  if (clamp && (!floatResult || e->form == Form::dotInteger)) {
    if (e->result == Type::mask) {
      clamp = false; // of a float comparison: it only concerns exceptions
    } else {
      auto it = d.entries.find(raw.name + "_clamp");
      if (it == d.entries.end()) {
        problem = "no saturating form of " + raw.name;
        return false;
      }
      e = it->second;
      op.run = e->run;
      clamp = false;
    }
  }
  // The byte that an fp8 conversion reads or writes is the last word.
  if (selectsByte && !trailing.empty()) {
    auto byte = uint8_t(trailing.back() & 3);
    if (startsWith(raw.name, "v_cvt_sr")) {
      s[0].mods = uint8_t((s[0].mods & ~8) | (byte & 2 ? 8 : 0));
      s[1].mods = uint8_t((s[1].mods & ~4) | (byte & 1 ? 4 : 0));
    } else {
      s[0].mods = uint8_t((s[0].mods & 3) | (byte & 1 ? 4 : 0) | (byte & 2 ? 8 : 0));
    }
  }

  uint32_t resultWords = is64(e->result) ? 2 : 1;
  bool resultHigh = false;
  if (e->form == Form::compare) {
    op.d = defs ? destination(inst.getOperand(0), 1) : scalarAt(e->words ? sreg::exec : sreg::vcc);
  } else {
    if (defs == 0) {
      problem = "no destination";
      return false;
    }
    op.d = destination(inst.getOperand(0), resultWords);
    // A vector handler that wrote to a scalar's place would write over its neighbours; v_swap_b32 writes its source
    // too.
    bool scalarResult = !isVector(inst.getOperand(0)) || (raw.name == "v_swap_b32" && !isVector(inst.getOperand(1)));
    if (e->form == Form::valu && e->result != Type::mask && scalarResult) {
      problem = "a scalar destination of a vector operation";
      return false;
    }
    bool packedResult = e->result == Type::packed || e->result == Type::packedF16;
    resultHigh = is16(e->result) && !packedResult &&
                 ((encoding(inst.getOperand(0)) & 0x1000) || (resultMods & 8 && e->form == Form::valu));
    if (e->form == Form::carry)
      op.d2 = defs > 1 ? destination(inst.getOperand(1), 1) : scalarAt(sreg::vcc);
  }
  // v_readlane's and v_writelane's operands are plain; a lane mask result must not be taken for a vector.
  if (e->form == Form::mix && raw.name != "v_fma_mix_f32") {
    int32_t to = op.d;
    bool high = raw.name == "v_fma_mixhi_f16";
    op.d = temporary(6);
    build(*e, op, s, count, false, false, 0, dpp);
    Op last = code.ops.back();
    bool restores = dpp.present;
    if (restores) {
      code.ops.pop_back();
      code.instructionOf.pop_back();
    }
    addMicro(micro.narrow, to, temporary(6), high ? 8 : 0, clamp);
    if (restores)
      add(last);
    return problem.empty();
  }
  build(*e, op, s, count, resultHigh, clamp, omod, dpp);
  return problem.empty();
}

// VOPD: both halves read before either writes, so two operations in the order that keeps this true.
bool Decoder::emitDual(const Raw &raw) {
  std::string name = record(raw).str();
  size_t middle = name.find("_X_");
  if (!startsWith(name, "V_DUAL_") || middle == name.npos) {
    problem = "not understood as a dual instruction";
    return false;
  }
  std::string half[2] = {name.substr(7, middle - 7), name.substr(middle + 3)};
  Op ops[2];
  unsigned next = 2;
  for (int h = 0; h < 2; ++h) {
    std::string n = half[h];
    for (const char *suffix : {"_gfx11", "_gfx12", "_e32", "_e96"})
      if (size_t at = n.find(suffix); at != n.npos)
        n.resize(at);
    std::transform(n.begin(), n.end(), n.begin(), [](unsigned char c) { return std::tolower(c); });
    if (n == "add_u32")
      n = "add_nc_u32";
    auto it = d.entries.find("v_" + n);
    if (it == d.entries.end()) {
      problem = "dual instruction with unknown half v_" + n;
      return false;
    }
    const Entry &e = *it->second;
    Op op{};
    op.run = e.run;
    op.detail = e.detail;
    const llvm::MCOperand &to = raw.inst.getOperand(unsigned(h));
    op.d = destination(to, 1);
    unsigned listed = e.sourceCount;
    bool accumulates = startsWith(n, "fmac") || startsWith(n, "dot2");
    if (e.sources[e.sourceCount - 1] == Type::mask)
      --listed;
    std::vector<llvm::MCOperand> operands;
    for (unsigned i = 0; i < listed && next < raw.inst.getNumOperands(); ++i, ++next)
      operands.push_back(raw.inst.getOperand(next));
    if (accumulates && operands.size() == 3)
      operands[2] = to; // the listed accumulator may be wrong
    else if (accumulates && operands.size() == 2)
      operands.push_back(to);
    if (operands.size() != listed) {
      problem = "dual instruction with too few operands";
      return false;
    }
    if (n == "fmamk_f32" && operands[1].isReg() && !operands[2].isReg())
      std::swap(operands[1], operands[2]);
    for (unsigned i = 0; i < listed; ++i)
      op.s[i] = source(operands[i], e.sources[i]).offset;
    if (listed < e.sourceCount)
      op.s[listed] = scalarAt(sreg::vcc) | 1;
    ops[h] = op;
  }
  auto reads = [](const Op &op, int32_t where) { return op.s[0] == where || op.s[1] == where || op.s[2] == where; };
  if (!reads(ops[1], ops[0].d)) {
    add(ops[0]);
    add(ops[1]);
  } else if (!reads(ops[0], ops[1].d)) {
    add(ops[1]);
    add(ops[0]);
  } else {
    int32_t to = ops[0].d;
    // An accumulating first half reads its own destination through a source, which stays as it is.
    ops[0].d = temporary(8);
    add(ops[0]);
    add(ops[1]);
    addMicro(micro.copy, to, temporary(8));
  }
  return problem.empty();
}

bool Decoder::emitMatrix(const Raw &raw, const Entry &entry) {
  use.final = true;
  const Entry *e = &entry;
  unsigned n = raw.inst.getNumOperands(), count = 0;
  uint8_t pending = 0;
  Op op{};
  bool clamp = false;
  for (unsigned i = desc(raw).getNumDefs(); i < n; ++i) {
    const llvm::MCOperand &o = raw.inst.getOperand(i);
    int64_t v;
    if (isModifier(raw, i) && o.isImm()) {
      pending = uint8_t(o.getImm());
      continue;
    }
    if (count < 3) {
      uint32_t words = count < 2 ? e->words : e->detail >> 8 & 255;
      if (o.isReg()) {
        // A tied accumulator is the destination, whatever is listed.
        const llvm::MCOperand &actual = isTied(raw, i) ? raw.inst.getOperand(0) : o;
        noteUse(use.reads, encoding(actual), words);
        op.s[count] = isVector(actual) ? vectorRegister(actual, words) : 0;
        if (!isVector(actual))
          problem = "matrix operand in scalar registers";
      } else if (immediate(o, v)) {
        if (v > int64_t(UINT32_MAX) || v < INT32_MIN)
          v = __builtin_bit_cast(uint32_t, float(__builtin_bit_cast(double, v)));
        op.s[count] = addWords(std::vector<uint32_t>(8, uint32_t(v))) | 1;
      }
      op.mods[count] = pending;
      pending = 0;
      ++count;
    } else if (!isTied(raw, i) && immediate(o, v) && v == 1) {
      clamp = true;
    }
  }
  if (count < 3) {
    problem = "too few operands";
    return false;
  }
  if (clamp) {
    auto it = d.entries.find(raw.name + "_clamp");
    if (it == d.entries.end()) {
      problem = "no saturating form";
      return false;
    }
    e = it->second;
  }
  op.run = e->run;
  op.detail = e->detail;
  op.d = destination(raw.inst.getOperand(0), e->detail >> 8 & 255);
  add(op);
  return problem.empty();
}

bool Decoder::emitScalar(const Raw &raw, const Entry &e) {
  const llvm::MCInst &inst = raw.inst;
  unsigned n = inst.getNumOperands(), defs = desc(raw).getNumDefs();
  Op op{};
  op.run = e.run;
  op.detail = e.detail;
  op.imm = raw.pc + raw.bytes;
  op.d = sink;
  unsigned first = 0;
  if (e.result != Type::none && e.form != Form::branch) {
    if (n == 0 || !inst.getOperand(0).isReg()) {
      problem = "no destination";
      return false;
    }
    op.d = destination(inst.getOperand(0), std::max<uint32_t>(e.words, is64(e.result) ? 2 : 1));
    first = std::max(1u, defs);
  }
  int64_t v = 0;
  auto signed16 = [](int64_t x) { return int64_t(int16_t(x)); };
  switch (e.form) {
  case Form::salu:
  case Form::saluNoResult:
  case Form::sopk: {
    unsigned count = 0;
    for (unsigned i = first; i < n && count < e.sourceCount; ++i) {
      const llvm::MCOperand &o = inst.getOperand(i);
      if (isTied(raw, i))
        continue;
      if ((e.form == Form::sopk || startsWith(raw.name, "s_cmpk_")) && immediate(o, v)) {
        bool isUnsigned = raw.name.size() > 4 && raw.name.substr(raw.name.size() - 4) == "_u32";
        op.s[count++] = constant(uint32_t(isUnsigned ? v & 0xffff : signed16(v))) | 1;
        continue;
      }
      op.s[count] = source(o, e.sources[count]).offset;
      ++count;
    }
    for (; count < 3; ++count)
      op.s[count] = e.sourceCount == 3 ? op.d | 1 : constant(0) | 1;
    // Two sources and a destination that is also read: the third is the destination.
    if (e.sourceCount == 3)
      op.s[2] = (n - first >= 3 && !isTied(raw, first + 2)) ? op.s[2] : op.d | 1;
    // A 64-bit destination that is also read is read whole.
    break;
  }
  case Form::branch: {
    if (e.result != Type::none)
      op.d = destination(inst.getOperand(0), 2);
    if (n == 0 || !immediate(inst.getOperand(n - 1), v)) {
      problem = "no branch distance";
      return false;
    }
    jumps.push_back({code.ops.size(), uint32_t(int64_t(raw.pc) + 4 + 4 * signed16(v))});
    break;
  }
  case Form::hwreg:
    if (e.sourceCount) {
      op.s[0] = source(inst.getOperand(0), Type::b32).offset;
      // s_setreg lists the value, then the register word.
      if (n < 2 || !immediate(inst.getOperand(1), v))
        problem = "no hardware register";
    } else if (n < 2 || !immediate(inst.getOperand(1), v)) {
      problem = "no hardware register";
    }
    op.imm = uint32_t(v) & 0xffff;
    break;
  case Form::control:
    if (n && immediate(inst.getOperand(0), v))
      op.imm = uint32_t(v);
    if (startsWith(raw.name, "s_barrier") && raw.name != "s_barrier" && int16_t(op.imm) != -1)
      problem = "only the workgroup's own barrier (-1) exists";
    break;
  case Form::smem: {
    use.final = true;
    op.imm = 0;
    op.s[1] = constant(0) | 1;
    llvm::StringRef rec = record(raw);
    op.site = code.sites++;
    if (n < 2) {
      problem = "too few operands";
      return false;
    }
    uint32_t to = encoding(inst.getOperand(0)) & 0xff;
    if (to != sreg::null && to + e.words > sreg::null)
      problem = "loads past the scalar registers";
    op.s[0] = source(inst.getOperand(1), Type::b64).offset;
    unsigned i = 2;
    if (rec.contains("_SGPR") && i < n && inst.getOperand(i).isReg())
      op.s[1] = source(inst.getOperand(i++), Type::b32).offset;
    if (rec.contains("_IMM") && i < n && immediate(inst.getOperand(i), v))
      op.imm = uint32_t(v);
    break;
  }
  default:
    problem = "no scalar form";
    return false;
  }
  add(op);
  return problem.empty();
}

bool Decoder::emitVectorMemory(const Raw &raw, const Entry &e, std::string_view prefix, const std::string &name) {
  const llvm::MCInst &inst = raw.inst;
  unsigned defs = desc(raw).getNumDefs(), n = inst.getNumOperands();
  Op op{};
  op.run = e.run;
  op.detail = e.detail;
  op.site = code.sites++;
  use.final = e.form != Form::dsPermute && e.form != Form::dsSwizzle;
  bool isDs = prefix == "ds_", isScratch = prefix == "scratch_";
  bool isStore = e.form == Form::vmemStore || e.form == Form::dsStore;
  std::vector<llvm::MCOperand> vectors;
  std::vector<int64_t> numbers;
  int32_t scalarBase = -1;
  for (unsigned i = defs; i < n; ++i) {
    const llvm::MCOperand &o = inst.getOperand(i);
    int64_t v;
    if (isTied(raw, i))
      continue;
    if (o.isReg() && isVector(o))
      vectors.push_back(o);
    else if (o.isReg() && o.getReg() && (encoding(o) & 0xff) != sreg::null) {
      noteUse(use.reads, encoding(o), isScratch ? 1 : 2);
      scalarBase = scalarAt(encoding(o) & 0xff) | 1;
    } else if (immediate(o, v))
      numbers.push_back(v);
  }
  auto offset = [&](size_t i) {
    if (i >= numbers.size())
      return int64_t(0);
    if (isDs)
      return numbers[i];
    int bits = chip.generation >= 12 ? 24 : 13;
    return int64_t(uint64_t(numbers[i]) << (64 - bits)) >> (64 - bits);
  };
  op.imm = uint32_t(offset(0));
  uint32_t words = e.words;
  if (defs)
    op.d = destination(inst.getOperand(0), words);
  op.imm2 = defs; // atomics: an old value is wanted

  size_t at = 0;
  auto take = [&](uint32_t count) -> int32_t {
    if (at >= vectors.size()) {
      problem = "too few registers";
      return 0;
    }
    noteUse(use.reads, encoding(vectors[at]), count);
    return vectorRegister(vectors[at++], count);
  };
  int32_t zero = constant(0) | 1;
  op.s[0] = op.s[1] = op.s[2] = op.s[3] = zero;
  if (isDs) {
    op.space = uint8_t(Space::lds);
    op.s[0] = take(1);
    if (contains(name, "_2addr")) {
      uint32_t unit = (name.back() == '4' ? 8u : 4u) * (contains(raw.name, "stride64") ? 64u : 1u);
      op.imm = uint32_t(offset(0)) * unit;
      op.imm2 = uint32_t(offset(1)) * unit;
    }
    if (isStore || e.form == Form::vmemAtomic || e.form == Form::dsPermute) {
      op.s[2] = take(words);
      if (at < vectors.size())
        op.s[3] = take(words);
    }
  } else if (isScratch) {
    op.space = uint8_t(Space::scratch);
    if (isStore)
      op.s[2] = take(words); // scratch stores list the data first
    if (at < vectors.size())
      op.s[0] = take(1);
    if (scalarBase >= 0)
      op.s[1] = scalarBase;
  } else {
    bool hasBase = scalarBase >= 0;
    op.space = uint8_t(prefix == "flat_" ? Space::flat : hasBase ? Space::globalScalarBase : Space::global);
    if (hasBase)
      op.s[1] = scalarBase;
    op.s[0] = take(hasBase ? 1 : 2);
    if (isStore || e.form == Form::vmemAtomic) {
      bool compares = startsWith(name, "cmpswap");
      op.s[2] = take(compares ? 2 * words : words);
      if (compares)
        op.s[3] = op.s[2] + int32_t(128 * words);
    }
  }
  add(op);
  return problem.empty();
}

bool Decoder::emit(const Raw &raw) {
  std::string name = raw.name;
  if (startsWith(name, "v_dual_"))
    return emitDual(raw);
  for (std::string_view prefix : {"global_", "flat_", "scratch_", "ds_"}) {
    if (!startsWith(name, prefix))
      continue;
    std::string rest = name.substr(prefix.size());
    removePart(rest, "atomic_");
    removePart(rest, "_rtn");
    removePart(rest, "_stride64");
    auto it = d.entries.find(rest);
    if (it == d.entries.end())
      break;
    bool dsOnly = it->second->form == Form::dsLoad || it->second->form == Form::dsStore ||
                  it->second->form == Form::dsPermute || it->second->form == Form::dsSwizzle;
    if (dsOnly && prefix != "ds_")
      break;
    return emitVectorMemory(raw, *it->second, prefix, rest);
  }
  auto it = d.entries.find(name);
  if (it == d.entries.end()) {
    problem = "unknown";
    return false;
  }
  const Entry &e = *it->second;
  switch (e.form) {
  case Form::none:
    return true;
  case Form::valu:
  case Form::compare:
  case Form::carry:
  case Form::mix:
  case Form::dotInteger:
  case Form::permlane16:
  case Form::lane:
    return emitValu(raw, e);
  case Form::wmma:
    return emitMatrix(raw, e);
  default:
    return emitScalar(raw, e);
  }
}

Class classOf(const Disassembler &d, const std::string &name) {
  if (startsWith(name, "v_dual_"))
    return Class::vector;
  if (startsWith(name, "ds_"))
    return contains(name, "permute") || contains(name, "swizzle") ? Class::crossLane : Class::lds;
  if (startsWith(name, "scratch_"))
    return Class::scratch;
  auto it = d.entries.find(name);
  return it == d.entries.end() ? Class::global : it->second->cls;
}

bool Decoder::parseDescriptor() {
  auto word = [&](size_t at) {
    uint32_t v;
    std::memcpy(&v, code.kernel.descriptor.data() + at, 4);
    return v;
  };
  uint32_t rsrc1 = word(48), rsrc2 = word(52);
  code.properties = uint16_t(word(56));
  registers = ((rsrc1 & 63) + 1) * 8;
  if (registers > 256)
    registers = 256;
  code.mode = rsrc1 >> 12 & 0xff;
  code.userScalars = rsrc2 >> 1 & 31;
  for (unsigned i = 0; i < 3; ++i)
    code.groupIdScalars[i] = rsrc2 >> (7 + i) & 1;
  code.localIdComponents = rsrc2 >> 11 & 3;
  code.vectorBase = uint32_t((sizeof(Wave) + 127) / 128 * 128);
  code.vectorRegisters = registers + temporaries;
  sink = addWords(std::vector<uint32_t>(16, 0));
  return (code.properties >> 10 & 1) != 0;
}

bool Decoder::run(Fault &fault) {
  auto fail = [&](const std::string &why) {
    fault = {98, "kernel " + code.kernel.name + ": " + why};
    return false;
  };
  if (!parseDescriptor())
    return fail("made for waves of 64 lanes; this machine runs waves of 32 (compile with wavefrontsize32)");
  if (code.kernel.codeBytes == 0 || code.kernel.codeBytes > (64u << 20))
    return fail("code of " + std::to_string(code.kernel.codeBytes) + " bytes: expected between 4 bytes and 64 MiB");
  llvm::ArrayRef<uint8_t> bytes(hostPointer(code.kernel.entry), code.kernel.codeBytes);

  std::vector<Raw> list;
  std::vector<std::string> unknown;
  std::map<uint32_t, size_t> at;
  for (uint64_t pc = 0; pc < bytes.size();) {
    Raw raw;
    uint64_t size = 0;
    auto status = d.decoder->getInstruction(raw.inst, size, bytes.slice(pc), pc, llvm::nulls());
    if (status != llvm::MCDisassembler::Success || size == 0) {
      char text[96];
      uint32_t dword = 0;
      std::memcpy(&dword, bytes.data() + pc, std::min<size_t>(4, bytes.size() - pc));
      std::snprintf(text, sizeof text, "  pc 0x%llx: no instruction (0x%08x)", static_cast<unsigned long long>(pc),
                    dword);
      unknown.push_back(text);
      pc += 4;
      continue;
    }
    raw.pc = uint32_t(pc);
    raw.bytes = uint32_t(size);
    llvm::StringRef name = llvm::StringRef(d.printer->getMnemonic(raw.inst).first).trim().split(' ').first;
    for (bool again = true; again;) {
      again = false;
      for (const char *suffix : {"_e32", "_e64", "_dpp", "_dpp8", "_e64_dpp"})
        again |= name.consume_back(suffix);
    }
    raw.name = name.str();
    at[raw.pc] = list.size();
    list.push_back(std::move(raw));
    pc += size;
  }
  if (list.empty())
    return fail("no instruction could be decoded");

  // Where straight runs begin.
  bool jumpsByRegister = false;
  list[0].leader = true;
  for (size_t i = 0; i < list.size(); ++i) {
    const Raw &raw = list[i];
    auto it = d.entries.find(raw.name);
    if (it == d.entries.end() || it->second->cls != Class::branch)
      continue;
    jumpsByRegister |= raw.name == "s_setpc_b64" || raw.name == "s_swappc_b64";
    if (i + 1 < list.size())
      list[i + 1].leader = true;
    if (it->second->form != Form::branch)
      continue;
    int64_t v = 0;
    if (raw.inst.getNumOperands() && immediate(raw.inst.getOperand(raw.inst.getNumOperands() - 1), v)) {
      auto target = at.find(uint32_t(int64_t(raw.pc) + 4 + 4 * int64_t(int16_t(v))));
      if (target != at.end())
        list[target->second].leader = true;
    }
  }
  code.opAtDword.assign(bytes.size() / 4 + 1, -1);
  auto textOf = [&](const Raw &raw) {
    std::string text;
    llvm::raw_string_ostream out(text);
    d.printer->printInst(&raw.inst, raw.pc, "", *d.subtarget, out);
    for (char &c : text)
      c = c == '\t' ? ' ' : c;
    return text.substr(std::min(text.find_first_not_of(' '), text.size()));
  };
  size_t counter = 0;
  for (const Raw &raw : list) {
    code.instructions.push_back({raw.pc, raw.bytes, textOf(raw)});
    code.opAtDword[raw.pc / 4] = int32_t(code.ops.size());
    if (raw.leader || jumpsByRegister) {
      Op op{};
      op.run = countBlock;
      op.imm = uint32_t(code.blocks.size());
      counter = code.ops.size();
      add(op);
      code.blocks.emplace_back();
    }
    code.blocks.back().counts[size_t(classOf(d, raw.name))] += 1;
    code.blocks.back().instructions += 1;
    code.ops[counter].imm2 = code.blocks.back().instructions;
    problem.clear();
    use = {};
    size_t check = code.ops.size();
    if (poison) {
      Op op{};
      op.run = checkUse;
      op.imm = uint32_t(code.uses.size());
      add(op);
    }
    bool known = emit(raw);
    // These pick among their sources, perhaps only defined ones.
    if (startsWith(raw.name, "v_read") || startsWith(raw.name, "v_cndmask") || startsWith(raw.name, "v_perm"))
      use.reads.clear();
    if (poison && code.ops.size() == check + 1) {
      code.ops.pop_back();
      code.instructionOf.pop_back();
    } else if (poison) {
      code.uses.push_back(std::move(use));
    }
    if (!known) {
      char text[32];
      std::snprintf(text, sizeof text, "  pc 0x%x: ", raw.pc);
      unknown.push_back(text + code.instructions.back().text + (problem == "unknown" ? "" : " (" + problem + ")"));
    }
  }
  Op last{};
  last.run = leaveCode;
  add(last);
  for (auto [op, pc] : jumps) {
    if (pc >= bytes.size() || code.opAtDword[pc / 4] < 0) {
      unknown.push_back("  " + code.instructions[code.instructionOf[op]].text + ": branches out of the kernel, to pc " +
                        std::to_string(int32_t(pc)));
      continue;
    }
    code.ops[op].target = &code.ops[size_t(code.opAtDword[pc / 4])];
  }
  if (!unknown.empty()) {
    std::string report =
        std::to_string(unknown.size()) + " instructions that the " + std::string(chip.name) + " machine cannot run:";
    for (const std::string &u : unknown)
      report += "\n" + u;
    return fail(report);
  }
  code.waveBytes = uint32_t(code.vectorBase + 128 * code.vectorRegisters + 4 * code.constants.size() + 127) / 128 * 128;
  return true;
}

} // namespace

std::shared_ptr<Program> decodeKernel(const ChipInfo &chip, const Executor &executor, const KernelInfo &kernel,
                                      bool poison, Fault &fault) {
  std::string error;
  Disassembler *d = disassemblerFor(chip, executor, error);
  if (!d) {
    fault = {719, error};
    return nullptr;
  }
  std::lock_guard<std::mutex> guard(d->busy);
  auto program = std::make_shared<Program>();
  program->code.kernel = kernel;
  Decoder decoder(chip, executor, *d, poison, program->code);
  if (!decoder.run(fault))
    return nullptr;
  return program;
}

} // namespace ingot::emu
