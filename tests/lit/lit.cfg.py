# lit: every .mlir file is a test. The programs of this build come first on the path, then LLVM's FileCheck and not.
import os

import lit.formats

config.name = "ingot"
config.test_format = lit.formats.ShTest(True)
config.suffixes = [".mlir"]
config.excludes = ["Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.environment["PATH"] = os.pathsep.join([config.ingot_bin_dir, config.llvm_bin_dir, os.environ["PATH"]])
config.substitutions.append(("%recipes", os.path.join(config.ingot_source_dir, "models", "recipes")))
config.substitutions.append(("%inputs", os.path.join(config.test_source_root, "Inputs")))
