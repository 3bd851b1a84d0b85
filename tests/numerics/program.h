// Whole `llm` modules on the emulated chip, for what no declared model has yet: passes, kernels, packed weights,
// planned memory and launches as `ingotc` and the runtime have them. With one fusion and without it, a module must give
// the same bits.
#pragma once

#include <map>

#include "dialects/Exec.h"
#include "models/testing/fake_checkpoint.h"
#include "tests/numerics/harness.h"

namespace ingot::numerics {

class Program {
public:
  // `text`: an annotated `llm` module with facts and the functions @decode and @logits. `passes`: a textual pipeline
  // that runs before `select`. Weights are random, from their names.
  Program(const std::string &text, const std::string &passes);
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  // Logits of all `tokens`, [tokens][vocabulary]: by runs of @logits on so many at `once` (0: all), or by @decode for
  // each.
  std::vector<float> logits(const std::vector<int32_t> &tokens, size_t once = 0);
  std::vector<float> steps(const std::vector<int32_t> &tokens);
  // The tokens that @decode_greedy chooses after each of `tokens`.
  std::vector<int32_t> chosen(const std::vector<int32_t> &tokens);
  // What a sequence has for itself: its copies of the buffers that steps of several find in tables, and pages.
  struct Sequence {
    std::map<std::string, std::unique_ptr<Buffer>> buffers;
    std::vector<int32_t> pages;
    std::shared_ptr<void> lease; // of the pages
  };
  // One that has nothing yet, but `step` and a first token.
  Sequence begin(const Step &step, int32_t token);
  // The same, as it is, on other pages.
  Sequence copyOf(const Sequence &sequence);
  // All that it has, by name: of its Step not the page table, and of states that grow what its pages hold.
  std::map<std::string, std::vector<uint8_t>> contents(const Sequence &sequence);
  // Runs a program of one sequence on it.
  void run(const std::string &program, const Sequence &sequence);
  // Runs a program of `width` sequences, fewer or as many. Row 1 gets row 0's copy of the buffer `wrong`, if it is
  // named.
  void together(const std::string &program, size_t width, const std::vector<Sequence> &sequences,
                const std::string &wrong = "");

  // What one of the model's own buffers holds.
  std::vector<float> floats(const std::string &buffer) const { return buffers.at(buffer)->read<float>(); }

  // Logits as the interpreter has them, with a device's numbers, after the same passes.
  std::vector<float> reference(const std::vector<int32_t> &tokens, bool steps);

  // Launches of a program.
  size_t launches(const std::string &program);
  // Those whose waves have at least so many tiles, of rows times of tokens.
  size_t launchesOfTiles(const std::string &program, int64_t tiles);

private:
  void clear();
  Sequence lend();
  void writePages(exec::BufferOp state, const std::vector<int32_t> &pages, const std::vector<uint8_t> &bytes);
  void run(const std::string &program, const Step &step);
  // With these in the place of the model's own buffers of their names.
  void launch(const std::string &program, int32_t tokens, const Sequence &own);
  exec::ProgramOp find(const std::string &program);

  FakeCheckpoint checkpoint;
  mlir::OwningOpRef<mlir::ModuleOp> model, lowered; // before and after `select`
  std::map<std::string, const Code *> code;         // of each kernel
  std::map<std::string, std::unique_ptr<Buffer>> buffers;
  uint64_t vocabulary = 0;
  std::vector<int32_t> idle; // leases that nobody has
  Sequence own;              // of programs that are run on no other
};

// ||got - wanted|| / ||wanted||.
double relativeError(const std::vector<float> &got, const std::vector<float> &wanted);

} // namespace ingot::numerics
