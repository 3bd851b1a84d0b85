// Loads a code object: bundle, ELF file, relocations, kernels. Each check says what it found and what it wanted;
// nothing here trusts an offset before it has been compared with the bytes there are.
#include "runtime/emulator/loader.h"
#include "runtime/emulator/msgpack.h"
#include "runtime/emulator/text.h"

#include <algorithm>
#include <cstring>
#include <elf.h>
#include <sys/mman.h>

namespace ingot::emu {
namespace {

constexpr int invalidImage = 200, noBinaryForGpu = 209;
constexpr unsigned machineAmdGpu = 224, osAbiAmdHsa = 64;
constexpr unsigned relocationAbs64 = 3, relocationAbs32 = 6, relocationRelative64 = 13;
constexpr unsigned noteMetadata = 32;
constexpr uint64_t maxImageBytes = uint64_t(1) << 30, maxKernarg = 64 << 10;
constexpr std::string_view bundleMagic = "__CLANG_OFFLOAD_BUNDLE__";

template <typename T> bool readAt(std::span<const uint8_t> bytes, uint64_t offset, T &out) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
    return false;
  std::memcpy(&out, bytes.data() + offset, sizeof(T));
  return true;
}

bool inside(uint64_t offset, uint64_t length, uint64_t total) { return offset <= total && length <= total - offset; }

bool startsWith(std::span<const uint8_t> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

struct BundleEntry {
  std::string_view id;
  uint64_t offset, bytes;
};

// The table of an offload bundle; false if it runs past the bytes.
bool readBundle(std::span<const uint8_t> bytes, std::vector<BundleEntry> &entries) {
  uint64_t count, at = bundleMagic.size();
  if (!readAt(bytes, at, count) || count > bytes.size() / 24)
    return false;
  at += 8;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t header[3];
    if (!readAt(bytes, at, header) || !inside(at + 24, header[2], bytes.size()))
      return false;
    entries.push_back({{reinterpret_cast<const char *>(bytes.data() + at + 24), header[2]}, header[0], header[1]});
    at += 24 + header[2];
  }
  return true;
}

// "hipv4-amdgcn-amd-amdhsa--gfx1151:xnack-" -> "gfx1151"
std::string_view chipOfEntry(std::string_view id) {
  if (!id.starts_with("hip") && !id.starts_with("openmp"))
    return {};
  size_t dashes = id.rfind("--");
  if (dashes == std::string_view::npos)
    return {};
  std::string_view target = id.substr(dashes + 2);
  return target.substr(0, target.find(':'));
}

} // namespace

class Loader {
public:
  Loader(std::span<const uint8_t> file, const ChipInfo &chip, Memory &memory, Fault &fault)
      : file(file), chip(chip), fault(fault), object(new CodeObject(memory)) {}

  std::unique_ptr<CodeObject> load() {
    if (!checkHeader() || !mapSegments() || !readSymbols() || !relocate() || !readKernels())
      return nullptr;
    return std::move(object);
  }

private:
  std::span<const uint8_t> file;
  const ChipInfo &chip;
  Fault &fault;
  std::unique_ptr<CodeObject> object;
  Elf64_Ehdr header;
  std::vector<Elf64_Phdr> segments;
  std::string target;
  struct Symbol {
    uint64_t value, size;
    unsigned char type;
    bool defined;
    std::string name;
  };
  std::vector<Symbol> symbols;

  bool fail(int code, std::string text) {
    fault = {code, "code object refused: " + std::move(text)};
    return false;
  }
  bool bad(std::string text) { return fail(invalidImage, std::move(text)); }

  bool checkHeader() {
    if (!readAt(file, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
      return bad("not an ELF file");
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
      return bad("ELF file is not 64-bit little-endian");
    if (header.e_machine != machineAmdGpu)
      return fail(noBinaryForGpu, format("ELF machine is {}, expected {} (AMDGPU)", header.e_machine, machineAmdGpu));
    if (header.e_ident[EI_OSABI] != osAbiAmdHsa)
      return bad(format("ELF OS ABI is {}, expected {} (AMD HSA)", header.e_ident[EI_OSABI], osAbiAmdHsa));
    if (header.e_ident[EI_ABIVERSION] < 2 || header.e_ident[EI_ABIVERSION] > 4)
      return bad(format("code object ABI version is {}, expected 2 to 4 (V4 to V6)", header.e_ident[EI_ABIVERSION]));
    if (header.e_type != ET_DYN)
      return bad(format("ELF type is {}, expected a shared object; link it with ld.lld -shared", header.e_type));
    unsigned machine = header.e_flags & 0xff;
    if (machine == chip.elfMachine)
      target = chip.name;
    else if (machine == chip.elfGenericMachine)
      target = chip.genericName;
    else
      return fail(noBinaryForGpu, format("made for {}, this device is {} (ELF machine {:#x})", chipOf(machine),
                                         chip.name, chip.elfMachine));
    return true;
  }

  static std::string chipOf(unsigned machine) {
    for (const ChipInfo &other : allChips()) {
      if (other.elfMachine == machine)
        return std::string(other.name);
      if (other.elfGenericMachine == machine)
        return std::string(other.genericName);
    }
    return format("an unknown chip (ELF machine {:#x})", machine);
  }

  bool mapSegments() {
    if (header.e_phentsize != sizeof(Elf64_Phdr) ||
        !inside(header.e_phoff, uint64_t(header.e_phnum) * sizeof(Elf64_Phdr), file.size()))
      return bad("program headers lie outside the file");
    segments.resize(header.e_phnum);
    std::memcpy(segments.data(), file.data() + header.e_phoff, segments.size() * sizeof(Elf64_Phdr));
    uint64_t end = 0;
    for (const Elf64_Phdr &segment : segments) {
      if (segment.p_type != PT_LOAD)
        continue;
      if (segment.p_filesz > segment.p_memsz || !inside(segment.p_offset, segment.p_filesz, file.size()))
        return bad(format("segment at file offset {:#x} with {:#x} bytes lies outside the file", segment.p_offset,
                          segment.p_filesz));
      if (segment.p_vaddr < end || !inside(segment.p_vaddr, segment.p_memsz, maxImageBytes))
        return bad(format("segment at address {:#x} overlaps another, is out of order or too large", segment.p_vaddr));
      end = segment.p_vaddr + segment.p_memsz;
    }
    if (end == 0)
      return bad("no loadable segment");
    // Instruction fetch of a decoder may look a few words past the last instruction.
    object->mappedBytes = (end + 256 + 4095) & ~uint64_t(4095);
    void *base = mmap(nullptr, object->mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      object->mappedBytes = 0;
      return fail(2, format("the host has no {} bytes for it", end));
    }
    object->base = static_cast<uint8_t *>(base);
    for (const Elf64_Phdr &segment : segments) {
      if (segment.p_type != PT_LOAD || segment.p_memsz == 0)
        continue;
      if (segment.p_filesz)
        std::memcpy(object->base + segment.p_vaddr, file.data() + segment.p_offset, segment.p_filesz);
      uint64_t address = reinterpret_cast<uint64_t>(object->base) + segment.p_vaddr;
      object->memory.add(address, segment.p_memsz, !(segment.p_flags & PF_W), Memory::codeName);
      object->registered.push_back(address);
    }
    return true;
  }

  bool inSegment(uint64_t address, uint64_t bytes, uint32_t flags) const {
    return std::any_of(segments.begin(), segments.end(), [&](const Elf64_Phdr &s) {
      return s.p_type == PT_LOAD && (s.p_flags & flags) == flags && address >= s.p_vaddr &&
             inside(address - s.p_vaddr, bytes, s.p_memsz);
    });
  }

  bool readSymbols() {
    if (header.e_shnum == 0)
      return bad("no section headers, so no symbols; do not strip section headers");
    if (header.e_shentsize != sizeof(Elf64_Shdr) ||
        !inside(header.e_shoff, uint64_t(header.e_shnum) * sizeof(Elf64_Shdr), file.size()))
      return bad("section headers lie outside the file");
    std::vector<Elf64_Shdr> sections(header.e_shnum);
    std::memcpy(sections.data(), file.data() + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
    for (const Elf64_Shdr &section : sections) {
      if (section.sh_type != SHT_DYNSYM)
        continue;
      if (section.sh_entsize != sizeof(Elf64_Sym) || !inside(section.sh_offset, section.sh_size, file.size()) ||
          section.sh_link >= sections.size())
        return bad("the dynamic symbol table is malformed");
      const Elf64_Shdr &names = sections[section.sh_link];
      if (!inside(names.sh_offset, names.sh_size, file.size()))
        return bad("the dynamic string table lies outside the file");
      std::string_view text(reinterpret_cast<const char *>(file.data() + names.sh_offset), names.sh_size);
      for (uint64_t i = 0; i < section.sh_size / sizeof(Elf64_Sym); ++i) {
        Elf64_Sym symbol;
        std::memcpy(&symbol, file.data() + section.sh_offset + i * sizeof(Elf64_Sym), sizeof symbol);
        if (symbol.st_name >= text.size())
          return bad(format("symbol {} has its name outside the string table", i));
        std::string_view name = text.substr(symbol.st_name);
        size_t length = name.find('\0');
        if (length == std::string_view::npos)
          return bad(format("symbol {} has a name without an end", i));
        symbols.push_back({symbol.st_value, symbol.st_size, static_cast<unsigned char>(ELF64_ST_TYPE(symbol.st_info)),
                           symbol.st_shndx != SHN_UNDEF, std::string(name.substr(0, length))});
      }
    }
    for (const Symbol &symbol : symbols)
      if (symbol.defined && symbol.type == STT_OBJECT && !symbol.name.ends_with(".kd") &&
          inSegment(symbol.value, symbol.size, 0))
        object->globalMap[symbol.name] = {reinterpret_cast<uint64_t>(object->base) + symbol.value, symbol.size};
    return true;
  }

  const Symbol *findSymbol(std::string_view name, unsigned char type) const {
    for (const Symbol &symbol : symbols)
      if (symbol.defined && symbol.type == type && symbol.name == name)
        return &symbol;
    return nullptr;
  }

  bool relocate() {
    uint64_t tables[2] = {}, sizes[2] = {};
    for (const Elf64_Phdr &segment : segments) {
      if (segment.p_type != PT_DYNAMIC)
        continue;
      if (!inSegment(segment.p_vaddr, segment.p_memsz, 0))
        return bad("the dynamic table lies outside the loaded segments");
      for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= segment.p_memsz; at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn entry;
        std::memcpy(&entry, object->base + segment.p_vaddr + at, sizeof entry);
        if (entry.d_tag == DT_NULL)
          break;
        if (entry.d_tag == DT_RELA)
          tables[0] = entry.d_un.d_ptr;
        else if (entry.d_tag == DT_RELASZ)
          sizes[0] = entry.d_un.d_val;
        else if (entry.d_tag == DT_JMPREL)
          tables[1] = entry.d_un.d_ptr;
        else if (entry.d_tag == DT_PLTRELSZ)
          sizes[1] = entry.d_un.d_val;
        else if (entry.d_tag == DT_REL)
          return bad("relocations without addends, which AMDGPU does not use");
      }
    }
    for (int t = 0; t < 2; ++t) {
      if (!sizes[t])
        continue;
      if (!inSegment(tables[t], sizes[t], 0))
        return bad("the relocation table lies outside the loaded segments");
      for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= sizes[t]; at += sizeof(Elf64_Rela)) {
        Elf64_Rela entry;
        std::memcpy(&entry, object->base + tables[t] + at, sizeof entry);
        if (!applyRelocation(entry))
          return false;
      }
    }
    return true;
  }

  bool applyRelocation(const Elf64_Rela &entry) {
    uint64_t base = reinterpret_cast<uint64_t>(object->base), value = entry.r_addend;
    unsigned type = ELF64_R_TYPE(entry.r_info);
    uint64_t index = ELF64_R_SYM(entry.r_info), width = type == relocationAbs32 ? 4 : 8;
    if (type == relocationRelative64) {
      value += base;
    } else if (type == relocationAbs64 || type == relocationAbs32) {
      if (index >= symbols.size())
        return bad(format("a relocation names symbol {} of {}", index, symbols.size()));
      if (!symbols[index].defined)
        return bad("undefined symbol " + symbols[index].name + "; link the object that defines it");
      value += base + symbols[index].value;
    } else {
      return bad(format("relocation type {} is not known to the loader", type));
    }
    if (!inSegment(entry.r_offset, width, 0))
      return bad(format("a relocation writes to {:#x}, outside the loaded segments", entry.r_offset));
    std::memcpy(object->base + entry.r_offset, &value, width);
    return true;
  }

  // The metadata note: the map that lists the kernels.
  bool readMetadata(MsgPack &metadata) {
    for (const Elf64_Phdr &segment : segments) {
      if (segment.p_type != PT_NOTE)
        continue;
      if (!inside(segment.p_offset, segment.p_filesz, file.size()))
        return bad("a note segment lies outside the file");
      std::span<const uint8_t> notes = file.subspan(segment.p_offset, segment.p_filesz);
      Elf64_Nhdr note;
      for (uint64_t at = 0; readAt(notes, at, note);) {
        uint64_t name = at + sizeof note, text = name + ((uint64_t(note.n_namesz) + 3) & ~uint64_t(3));
        if (!inside(text, note.n_descsz, notes.size()))
          return bad("a note runs past its segment");
        if (note.n_type == noteMetadata && startsWith(notes.subspan(name), std::string_view("AMDGPU\0", 7))) {
          std::optional<MsgPack> parsed = readMsgPack(notes.subspan(text, note.n_descsz));
          if (!parsed || parsed->kind != MsgPack::Kind::map)
            return bad("the metadata note is not a MessagePack map");
          metadata = std::move(*parsed);
          return true;
        }
        at = text + ((uint64_t(note.n_descsz) + 3) & ~uint64_t(3));
      }
    }
    return bad("no AMDGPU metadata note; code objects need version 3 metadata or newer");
  }

  bool readKernels() {
    MsgPack metadata;
    if (!readMetadata(metadata))
      return false;
    const MsgPack *kernels = metadata.find("amdhsa.kernels");
    if (!kernels)
      return true; // an object of global variables only
    for (const MsgPack &kernel : kernels->list)
      if (!readKernel(kernel))
        return false;
    return true;
  }

  bool readKernel(const MsgPack &kernel) {
    KernelInfo info{};
    info.name = kernel.textAt(".name");
    info.imageTarget = target;
    std::string symbolName = kernel.textAt(".symbol"), who = "kernel '" + info.name + "': ";
    if (info.name.empty())
      return bad("a kernel without a name in the metadata");
    const Symbol *descriptor = findSymbol(symbolName, STT_OBJECT);
    if (!descriptor)
      return bad(who + "its descriptor symbol '" + symbolName + "' is missing");
    if (descriptor->value % 64 || !inSegment(descriptor->value, info.descriptor.size(), 0))
      return bad(who + "its descriptor is misaligned or outside the loaded segments");
    std::memcpy(info.descriptor.data(), object->base + descriptor->value, info.descriptor.size());
    int64_t entryOffset;
    uint32_t sizes[3];
    std::memcpy(sizes, info.descriptor.data(), sizeof sizes);
    std::memcpy(&entryOffset, info.descriptor.data() + 16, sizeof entryOffset);
    uint64_t entry = descriptor->value + uint64_t(entryOffset);
    if (entry % 256 || !inSegment(entry, 4, PF_X))
      return bad(who + format("entry {:#x} is misaligned or not in executable code", entry));
    info.entry = reinterpret_cast<uint64_t>(object->base) + entry;
    if (const Symbol *function = findSymbol(info.name, STT_FUNC); function && function->value == entry)
      info.codeBytes = function->size;
    else
      for (const Elf64_Phdr &s : segments)
        if (s.p_type == PT_LOAD && entry >= s.p_vaddr && entry - s.p_vaddr < s.p_memsz)
          info.codeBytes = s.p_vaddr + s.p_memsz - entry;
    if (info.codeBytes < 4 || info.codeBytes % 4 || !inSegment(entry, info.codeBytes, PF_X))
      return bad(who + format("code of {} bytes at {:#x} leaves its segment", info.codeBytes, entry));
    info.ldsBytes = sizes[0];
    info.scratchBytes = sizes[1];
    uint64_t kernarg = kernel.integerAt(".kernarg_segment_size", sizes[2]);
    if (kernarg > maxKernarg)
      return bad(who + format("{} bytes of arguments, the limit is {}", kernarg, maxKernarg));
    info.kernargBytes = uint32_t(kernarg);
    if (info.ldsBytes > chip.ldsBytes)
      return bad(who + format("{} bytes of LDS, {} has {}", info.ldsBytes, chip.name, chip.ldsBytes));
    if (info.scratchBytes > (1u << 20))
      return bad(who + format("{} bytes of scratch a lane, the limit is 1 MiB", info.scratchBytes));
    if (uint64_t wave = kernel.integerAt(".wavefront_size", 32); wave != 32)
      return bad(who + format("wave size {}, the emulator runs wave32 only", wave));
    info.maxWorkgroupSize = uint32_t(std::min<uint64_t>(kernel.integerAt(".max_flat_workgroup_size", 1024), 1024));
    info.vgprs = uint32_t(std::min<uint64_t>(kernel.integerAt(".vgpr_count", 0), 1024));
    info.sgprs = uint32_t(std::min<uint64_t>(kernel.integerAt(".sgpr_count", 0), 1024));
    const MsgPack *arguments = kernel.find(".args");
    for (size_t i = 0; arguments && i < arguments->list.size(); ++i) {
      const MsgPack &argument = arguments->list[i];
      uint64_t offset = argument.integerAt(".offset", ~uint64_t(0)), size = argument.integerAt(".size", 0);
      if (!inside(offset, size, info.kernargBytes))
        return bad(who + format("argument {} lies outside the {} bytes of arguments", i, info.kernargBytes));
      std::string access = argument.textAt(".actual_access");
      info.arguments.push_back(
          {uint32_t(offset), uint32_t(size), argument.textAt(".value_kind"), access == "read_only"});
    }
    object->kernelList.push_back(std::move(info));
    return true;
  }
};

std::unique_ptr<CodeObject> CodeObject::load(std::span<const uint8_t> image, const ChipInfo &chip, Memory &memory,
                                             Fault &fault) {
  if (startsWith(image, "CCOB")) {
    fault = {invalidImage, "image refused: it is a compressed offload bundle; make it without --compress"};
    return nullptr;
  }
  if (!startsWith(image, bundleMagic))
    return Loader(image, chip, memory, fault).load();
  std::vector<BundleEntry> entries;
  if (!readBundle(image, entries)) {
    fault = {invalidImage, "image refused: the offload bundle's table runs past its end"};
    return nullptr;
  }
  std::string seen;
  for (std::string_view wanted : {chip.name, chip.genericName})
    for (const BundleEntry &entry : entries) {
      if (chipOfEntry(entry.id) != wanted || entry.bytes == 0)
        continue;
      if (!inside(entry.offset, entry.bytes, image.size())) {
        fault = {invalidImage, format("image refused: bundle entry {} lies outside the bundle", entry.id)};
        return nullptr;
      }
      return Loader(image.subspan(entry.offset, entry.bytes), chip, memory, fault).load();
    }
  for (const BundleEntry &entry : entries)
    seen += (seen.empty() ? "" : ", ") + std::string(entry.id);
  fault = {noBinaryForGpu, format("image refused: no code for {} in the bundle, it has: {}", chip.name, seen)};
  return nullptr;
}

CodeObject::~CodeObject() {
  for (uint64_t address : registered)
    memory.remove(address);
  if (base)
    munmap(base, mappedBytes);
}

uint64_t imageBytes(std::span<const uint8_t> readable) {
  uint64_t end = 0;
  if (startsWith(readable, bundleMagic)) {
    std::vector<BundleEntry> entries;
    if (readBundle(readable, entries))
      for (const BundleEntry &entry : entries)
        if (inside(entry.offset, entry.bytes, readable.size()))
          end = std::max(end, entry.offset + entry.bytes);
    return end;
  }
  Elf64_Ehdr header;
  if (!readAt(readable, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return 0;
  uint64_t sections = uint64_t(header.e_shnum) * sizeof(Elf64_Shdr);
  return inside(header.e_shoff, sections, readable.size()) ? header.e_shoff + sections : readable.size();
}

} // namespace ingot::emu
