// The reader refuses every damaged file with a message of its own, and the writer leaves nothing half-made behind.
#include "runtime/artifact/artifact.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sys/resource.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include "absl/strings/str_cat.h"

#include "runtime/artifact/atomic_file.h"
#include "runtime/artifact/bundle.h"
#include "runtime/artifact/file_format.h"
#include "runtime/artifact/manifest_check.h"

namespace ingot {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr uint64_t kWeights = 5000;

Manifest smallManifest() {
  Manifest manifest;
  manifest.set_model_name("toy");
  ModelFacts &facts = *manifest.mutable_facts();
  facts.set_vocabulary(8);
  facts.set_context_length(32);
  facts.set_prefill_chunk(4);
  facts.set_state_block(16);
  auto add = [&](const char *name, Buffer::Role role, uint64_t bytes, uint64_t perPosition) {
    Buffer &buffer = *manifest.add_buffers();
    buffer.set_name(name);
    buffer.set_role(role);
    buffer.set_bytes(bytes);
    buffer.set_bytes_per_position(perPosition);
  };
  add("weights", Buffer::WEIGHTS, kWeights, 0);
  add("step", Buffer::STEP, 72, 0);
  add("tokens", Buffer::TOKENS, 16, 0);
  add("logits", Buffer::LOGITS, 32, 0);
  add("output", Buffer::OUTPUT, 0, 4);
  add("mask", Buffer::MASK, 4, 0);
  for (const char *name : {"gfx1151", "gfx1201"}) {
    TargetCode &target = *manifest.add_targets();
    target.set_target(name);
    target.add_kernels()->set_name("k");
    Program &program = *target.add_programs();
    program.set_name("decode");
    Launch &launch = *program.add_launches();
    launch.set_grid_x(1);
    launch.set_grid_y(1);
    launch.set_grid_z(1);
    launch.set_workgroup_size(32);
    launch.add_arguments()->set_buffer(0);
    launch.add_arguments()->set_buffer(4);
  }
  Weight &weight = *manifest.add_weights();
  weight.set_name("w");
  weight.set_bytes(kWeights);
  return manifest;
}

std::string smallBundle() {
  std::vector<std::pair<std::string, std::string>> code = {{"gfx1151", "first code object"}, {"gfx1201", "second"}};
  return makeBundle(code);
}

std::span<const std::byte> bytesOf(const std::string &text) { return std::as_bytes(std::span(text)); }

absl::Status packPattern(WeightSink &sink) {
  for (uint64_t done = 0; done < kWeights; done += 1000)
    if (absl::Status status = sink.append(bytesOf(std::string(1000, static_cast<char>('a' + done / 1000))));
        !status.ok())
      return status;
  return absl::OkStatus();
}

std::string readFile(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class ArtifactTest : public ::testing::Test {
protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / absl::StrCat("ingot-artifact-", ::getpid(), "-",
                                                      ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder);
    path = (folder / "model.ingot").string();
    tokenizer.set_chat_template("{{ messages }}");
  }
  void TearDown() override { fs::remove_all(folder); }
  absl::Status write(const Manifest &manifest) {
    return writeArtifact(path, manifest, tokenizer, bytesOf(smallBundle()), packPattern);
  }
  // In place where the size stays: some file systems write a truncated file through to the disk.
  void put(const std::string &bytes) {
    bool sameSize = fs::exists(path) && fs::file_size(path) == bytes.size();
    auto mode = std::ios::binary | std::ios::out | (sameSize ? std::ios::in : std::ios::trunc);
    std::fstream(path, mode) << bytes;
  }
  std::string openError() { return std::string(Artifact::open(path).status().message()); }
  // Rewrites the header and the contents' checksum after `change`, as a faulty writer would.
  void corruptContents(const std::function<void(format::Header &, format::ContentsEntry *)> &change) {
    ASSERT_TRUE(write(smallManifest()).ok());
    std::string bytes = readFile(path);
    format::Header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    std::vector<format::ContentsEntry> contents(header.sectionCount);
    std::memcpy(contents.data(), &bytes[header.contentsOffset], contents.size() * sizeof contents[0]);
    uint64_t offset = header.contentsOffset;
    size_t size = contents.size() * sizeof contents[0];
    change(header, contents.data());
    header.contentsChecksum = XXH3_64bits(contents.data(), size);
    std::memcpy(&bytes[offset], contents.data(), size);
    std::memcpy(bytes.data(), &header, sizeof header);
    put(bytes);
  }
  size_t filesInFolder() { return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {})); }

  fs::path folder;
  std::string path;
  TokenizerData tokenizer;
};

TEST_F(ArtifactTest, RoundTrip) {
  ASSERT_TRUE(write(smallManifest()).ok());
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok()) << artifact.status();
  EXPECT_EQ((*artifact)->manifest().SerializeAsString(), smallManifest().SerializeAsString());
  EXPECT_EQ((*artifact)->tokenizer().chat_template(), "{{ messages }}");
  EXPECT_EQ((*artifact)->weights().size(), kWeights);
  EXPECT_EQ((*artifact)->weights()[4999], std::byte('e'));
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*artifact)->weights().data()) % 4096, 0u);
  EXPECT_TRUE((*artifact)->verifyWeights().ok());
  auto code = (*artifact)->codeObject("gfx1201");
  ASSERT_TRUE(code.ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char *>(code->data()), code->size()), "second");
  EXPECT_EQ((*artifact)->sections().size(), 4u);
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(ArtifactTest, SameInputSameBytes) {
  ASSERT_TRUE(write(smallManifest()).ok());
  std::string first = readFile(path);
  ASSERT_TRUE(write(smallManifest()).ok());
  EXPECT_EQ(first, readFile(path));
}

TEST_F(ArtifactTest, WeightsOfSeveralChunks) {
  Manifest manifest = smallManifest();
  uint64_t bytes = 2 * kWeightsChunk + 12345;
  manifest.mutable_buffers(0)->set_bytes(bytes);
  auto pack = [&](WeightSink &sink) -> absl::Status {
    std::string piece(999'983, 'x');
    for (uint64_t done = 0; done < bytes; done += piece.size()) {
      piece.resize(std::min<uint64_t>(piece.size(), bytes - done));
      piece[0] = static_cast<char>(done % 251);
      if (absl::Status status = sink.append(bytesOf(piece)); !status.ok())
        return status;
    }
    return absl::OkStatus();
  };
  ASSERT_TRUE(writeArtifact(path, manifest, tokenizer, bytesOf(smallBundle()), pack).ok());
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok()) << artifact.status();
  EXPECT_TRUE((*artifact)->verifyWeights(3).ok());
  uint64_t weightsOffset = static_cast<uint64_t>((*artifact)->weights().data() - (*artifact)->bundle().data());
  EXPECT_GT(weightsOffset, 0u);
  artifact->reset();
  std::string damaged = readFile(path);
  damaged[damaged.size() - 128 - 4096] ^= 1;
  put(damaged);
  artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok()) << artifact.status();
  EXPECT_EQ((*artifact)->verifyWeights(2).code(), absl::StatusCode::kDataLoss);
}

TEST_F(ArtifactTest, EachRefusalHasItsOwnMessage) {
  EXPECT_EQ(Artifact::open(path).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Artifact::open(folder.string()).status().message()), HasSubstr("no regular file"));
  put("short");
  EXPECT_THAT(openError(), HasSubstr("at least the 64 bytes of a header, got a file of 5 bytes"));
  put(std::string(5000, 'G'));
  EXPECT_THAT(openError(), HasSubstr("expected the magic"));
  corruptContents([](format::Header &header, auto *) { header.version = 2; });
  EXPECT_THAT(openError(), HasSubstr("expected format version 1, got 2; the file is newer"));
  corruptContents([](format::Header &, format::ContentsEntry *contents) { contents[1].offset = 1u << 30; });
  EXPECT_THAT(openError(), HasSubstr("section code: expected inside the file"));
  corruptContents([](format::Header &, format::ContentsEntry *contents) { contents[1].offset += 8; });
  EXPECT_THAT(openError(), HasSubstr("section code: expected at a multiple of 4096"));
  corruptContents([](format::Header &, format::ContentsEntry *contents) { contents[1].kind = 1; });
  EXPECT_THAT(openError(), HasSubstr("expected one manifest section, got a second"));
  corruptContents([](format::Header &, format::ContentsEntry *contents) { contents[0].bytes = UINT64_MAX; });
  EXPECT_THAT(openError(), HasSubstr("section manifest: expected inside the file"));
  corruptContents([](format::Header &, format::ContentsEntry *contents) { contents[0].checksum ^= 1; });
  EXPECT_THAT(openError(), HasSubstr("section manifest does not match its checksum"));
  ASSERT_TRUE(write(smallManifest()).ok());
  std::string whole = readFile(path);
  put(whole.substr(0, whole.size() - 100));
  EXPECT_THAT(openError(), HasSubstr("the tail is cut off"));
  put(whole + "x");
  EXPECT_THAT(openError(), HasSubstr("something follows the end"));
  put(whole);
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok());
  EXPECT_THAT(std::string((*artifact)->code("gfx90a").status().message()),
              HasSubstr("expected code for gfx90a, got code for gfx1151, gfx1201 only"));
}

TEST_F(ArtifactTest, ManifestIndicesMustPointSomewhere) {
  struct Case {
    std::function<void(Manifest &)> change;
    std::string message;
  };
  auto launch = [](Manifest &manifest) {
    return manifest.mutable_targets(1)->mutable_programs(0)->mutable_launches(0);
  };
  const Case cases[] = {
      {[&](Manifest &m) { launch(m)->set_kernel(1); }, "expected a kernel index under 1, got 1"},
      {[&](Manifest &m) { launch(m)->mutable_arguments(0)->set_buffer(6); }, "expected a buffer index under 6, got 6"},
      {[&](Manifest &m) { launch(m)->mutable_arguments(0)->set_offset(kWeights); },
       "expected an offset under the 5000"},
      {[&](Manifest &m) { launch(m)->mutable_arguments(1)->set_offset(128); }, "expected an offset under the 128"},
      {[&](Manifest &m) { launch(m)->set_workgroup_size(0); }, "expected a workgroup of 1 to 1024 lanes, got 0"},
      {[&](Manifest &m) { launch(m)->set_grid_x(UINT32_MAX); }, "expected grid_x"},
      {[&](Manifest &m) { launch(m)->set_grid_y(0); }, "expected grid_y from 1"},
      {[&](Manifest &m) { launch(m)->set_grid_z(70000); }, "expected grid_z from 1"},
      {[](Manifest &m) { m.mutable_facts()->set_prefill_chunk(0); }, "expected facts.prefill_chunk from 1"},
      {[](Manifest &m) { m.mutable_facts()->set_state_block(0); }, "expected facts.state_block from 1"},
      {[](Manifest &m) { m.mutable_buffers(1)->set_bytes(71); }, "expected at least 72 bytes for role STEP"},
      {[](Manifest &m) { m.mutable_buffers(5)->set_bytes(3); }, "expected at least 4 bytes for role MASK"},
      {[](Manifest &m) { m.mutable_buffers()->RemoveLast(); }, "expected a buffer of role MASK, got none"},
      {[](Manifest &m) { m.mutable_buffers(4)->set_bytes_per_position(UINT64_MAX); }, "expected a size under 2^48"},
      {[](Manifest &m) { m.mutable_buffers(3)->set_role(Buffer::TOKENS); }, "got a second"},
      {[](Manifest &m) { m.mutable_buffers(3)->set_role(Buffer::STATE); },
       "expected a buffer of role LOGITS, got none"},
      {[](Manifest &m) { m.mutable_buffers(3)->set_role(static_cast<Buffer::Role>(77)); }, "expected a known role"},
      {[](Manifest &m) { m.mutable_weights(0)->set_offset(1); }, "weight \"w\": expected inside the 5000 bytes"},
      {[](Manifest &m) { m.clear_targets(); }, "expected code for at least one chip"},
      {[](Manifest &m) { m.mutable_targets(1)->set_target("gfx1151"); }, "expected targets with names of their own"},
      {[](Manifest &m) { m.mutable_targets(0)->mutable_programs(0)->set_name("logits"); }, "role ALL_LOGITS"},
      {[](Manifest &m) { m.mutable_targets(0)->mutable_programs(0)->set_name("sample_4"); },
       "program sample_4: expected buffers that sequences share, got buffer 4 \"output\" of role OUTPUT"},
      {[](Manifest &m) { m.mutable_facts()->set_streams(3); }, "expected facts.streams of 0, 2, 4 or 8, got 3"},
      {[](Manifest &m) { m.mutable_facts()->set_streams(2); },
       "expected a buffer of role BATCH_LOGITS where facts.streams is 2, got none"},
      {[](Manifest &m) {
         m.mutable_facts()->set_streams(2);
         Buffer &rows = *m.add_buffers();
         rows.set_role(Buffer::BATCH_LOGITS);
         rows.set_bytes(64);
       },
       "expected a batch_table for role STEP"},
      {[](Manifest &m) { m.mutable_targets(0)->mutable_programs(0)->set_name("decode_8"); },
       "program decode_8: expected buffers that sequences share"},
      {[](Manifest &m) {
         m.mutable_facts()->set_streams(2);
         m.mutable_buffers(3)->set_role(Buffer::BATCH_LOGITS);
       },
       "expected at least 64 bytes for role BATCH_LOGITS, got 32"},
      {[](Manifest &m) { m.mutable_buffers(0)->set_batch_table(128); }, "got 128 for WEIGHTS"},
      {[](Manifest &m) { m.mutable_buffers(1)->set_batch_table(128); },
       "expected batch_table of 64 for role STEP alone"},
      {[](Manifest &m) { m.mutable_buffers(1)->set_batch_table(64); }, "in the BATCH buffer of 0 bytes"},
      {[](Manifest &m) {
         Buffer &pages = *m.add_buffers();
         pages.set_role(Buffer::STATE);
         pages.set_bytes_per_position(2);
         pages.set_batch_table(128);
       },
       "and STATE of a fixed size, and none for others, got 128 for STATE"},
      {[](Manifest &m) { m.mutable_targets(0)->set_target("gfx942"); }, "bundle has no code object for it"},
  };
  for (const Case &test : cases) {
    Manifest manifest = smallManifest();
    test.change(manifest);
    EXPECT_THAT(std::string(write(manifest).message()), HasSubstr(test.message));
    EXPECT_FALSE(fs::exists(path)) << test.message;
  }
}

TEST_F(ArtifactTest, FailedWriteLeavesTheOldFile) {
  put("old");
  auto fail = [](WeightSink &) { return absl::AbortedError("the packer gave up"); };
  EXPECT_EQ(writeArtifact(path, smallManifest(), tokenizer, bytesOf(smallBundle()), fail).code(),
            absl::StatusCode::kAborted);
  auto tooFew = [](WeightSink &sink) { return sink.append(bytesOf("only this")); };
  EXPECT_THAT(std::string(writeArtifact(path, smallManifest(), tokenizer, bytesOf(smallBundle()), tooFew).message()),
              HasSubstr("expects 5000 bytes of weights, the packer wrote 9"));
  EXPECT_EQ(readFile(path), "old");
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(ArtifactTest, FullDiskIsReportedAndLeavesNothing) {
  // A file size limit makes write() come back short and then fail, as a full disk does.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit tight = {14'000, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  absl::Status status = write(smallManifest());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("writing failed after 14000 bytes"));
  EXPECT_EQ(filesInFolder(), 0u);
}

TEST_F(ArtifactTest, OutputMustBeARegularFile) {
  EXPECT_THAT(std::string(AtomicFile::create("/dev/null").status().message()), HasSubstr("a device or pipe"));
  EXPECT_THAT(std::string(AtomicFile::create(folder.string()).status().message()), HasSubstr("a folder"));
  EXPECT_THAT(std::string(AtomicFile::create((folder / "no" / "x").string()).status().message()),
              HasSubstr("make the folder first"));
}

TEST_F(ArtifactTest, BundleRefusesEntriesOutside) {
  std::string bundle = smallBundle();
  auto entries = parseBundle(bytesOf(bundle));
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[1].id, "hipv4-amdgcn-amd-amdhsa--gfx1151");
  EXPECT_EQ((*entries)[2].target, "gfx1201");
  EXPECT_EQ((*entries)[0].target, "");
  EXPECT_EQ(((*entries)[1].code.data() - bytesOf(bundle).data()) % 4096, 0);
  for (size_t size = 0; size < 200; ++size)
    EXPECT_FALSE(parseBundle(bytesOf(bundle).first(size)).ok()) << size;
  EXPECT_FALSE(parseBundle(bytesOf(bundle).first(bundle.size() - 1)).ok());
}

TEST_F(ArtifactTest, EveryFlippedByteOutsideTheWeightsIsFound) {
  ASSERT_TRUE(write(smallManifest()).ok());
  const std::string whole = readFile(path);
  std::mt19937 random(1); // NOLINT(bugprone-random-generator-seed): the same mutations every time
  for (int round = 0; round < 3000; ++round) {
    std::string changed = whole;
    size_t place = round < 64 ? static_cast<size_t>(round) : random() % whole.size();
    changed[place] = static_cast<char>(changed[place] ^ (1 + random() % 255));
    put(changed);
    auto artifact = Artifact::open(path);
    if (artifact.ok())
      EXPECT_FALSE((*artifact)->verifyWeights(1).ok()) << "byte " << place << " changed unseen";
  }
  for (int round = 0; round < 300; ++round) {
    put(whole.substr(0, random() % whole.size()));
    EXPECT_FALSE(Artifact::open(path).ok());
  }
}

// Behind right checksums: only the checks of the manifest and of the bundle stand between these bytes and the executor.
TEST_F(ArtifactTest, MutatedSectionsWithRightChecksumsNeverCrash) {
  ASSERT_TRUE(write(smallManifest()).ok());
  const std::string whole = readFile(path);
  format::Header header;
  std::memcpy(&header, whole.data(), sizeof header);
  std::mt19937 random(2); // NOLINT(bugprone-random-generator-seed): the same mutations every time
  int opened = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    std::vector<format::ContentsEntry> contents(header.sectionCount);
    size_t tableBytes = contents.size() * sizeof contents[0];
    std::memcpy(contents.data(), &bytes[header.contentsOffset], tableBytes);
    format::ContentsEntry &entry = contents[random() % 3];
    for (unsigned change = 0; change <= random() % 3; ++change)
      bytes[entry.offset + random() % std::min<uint64_t>(entry.bytes, 400)] = static_cast<char>(random());
    entry.checksum = XXH3_64bits(&bytes[entry.offset], entry.bytes);
    format::Header fixed = header;
    fixed.contentsChecksum = XXH3_64bits(contents.data(), tableBytes);
    std::memcpy(&bytes[header.contentsOffset], contents.data(), tableBytes);
    std::memcpy(bytes.data(), &fixed, sizeof fixed);
    put(bytes);
    auto artifact = Artifact::open(path);
    if (!artifact.ok())
      continue;
    ++opened;
    EXPECT_TRUE(checkManifest((*artifact)->manifest(), (*artifact)->weights().size()).ok());
    for (const TargetCode &code : (*artifact)->manifest().targets())
      EXPECT_TRUE((*artifact)->codeObject(code.target()).ok());
  }
  EXPECT_GT(opened, 0);
  EXPECT_LT(opened, 3000);
}

} // namespace
} // namespace ingot
