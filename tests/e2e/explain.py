#!/usr/bin/env python3
"""`ingotc --explain-kernels` against `ingot inspect`: the same kernels, registers and occupancy; each decode kernel has two
workgroups a compute unit or says why not; and K is split alike on both chips, whatever shares a launch.

usage: explain.py BUILD_FOLDER RECIPE"""

import json

import support


def waves_by_columns(kernels):
    """{columns of the weight: waves along K} of the decode linears, by their names."""
    found = {}
    for kernel in kernels:
        if kernel["chosen"] and "waves_along_k" in kernel["chosen"]:
            columns = kernel["kernel"].split("x")[1].split("_")[0]
            found.setdefault((kernel["kernel"].split("_")[1], columns), set()).add(kernel["chosen"]["waves_along_k"])
    return found


def body(session, recipe):
    checkpoint, artifact = support.SOURCE / "models" / "trained" / "tiny-llama", session.work / "model.ingot"

    def explain(*flags):
        done = session.run("ingotc", checkpoint, "-o", artifact, f"--recipe={recipe}", "-q", "--json", *flags)
        session.check(done.returncode == 0, f"{recipe}: ingotc --json {' '.join(flags)}", done.stderr)
        return json.loads(done.stdout)

    report = explain("--explain-kernels", "--explain-passes", "--explain-quant")
    inspected = json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)
    kernels = report["kernels"]
    for target in inspected["targets"]:
        name, mine = target["target"], [kernel for kernel in kernels if kernel["target"] == target["target"]]
        facts = {kernel["name"]: (kernel["vgprs"], kernel["lds_bytes"], kernel["occupancy_waves_per_simd"])
                 for kernel in target["kernels"]}
        said = {kernel["kernel"]: (kernel["vgprs"], kernel["lds_bytes"], kernel["occupancy_waves_per_simd"]) for kernel in mine}
        session.check(said == facts, f"{recipe}, {name}: kernels, registers, LDS and occupancy are those of ingot inspect",
                      sorted(set(said.items()) ^ set(facts.items())))
        launches = {program["name"]: program["launches_by_kernel"] for program in target["programs"]}
        wrong = [kernel["kernel"] for kernel in mine if launches[kernel["program"]][kernel["kernel"]] != kernel["launches"]]
        session.check(not wrong, f"{recipe}, {name}: launches are those of ingot inspect", wrong)
        silent = [kernel["kernel"] for kernel in mine if kernel["workgroups_per_compute_unit"] < 2
                  and not kernel["narrow_because"]]
        session.check(not silent, f"{recipe}, {name}: a narrow grid has a reason", silent)
        chosen = [kernel for kernel in mine if kernel["chosen"]]
        many = [kernel for kernel in chosen if kernel["chosen"]["tokens_per_wave"]]
        session.check(len(many) >= 4 and len(chosen) - len(many) >= 4,
                      f"{recipe}, {name}: the cost function chose for the linears of one token and of many", len(chosen))
        worse = [kernel["kernel"] for kernel in chosen
                 if kernel["chosen"].get("waves_along_k", kernel["chosen"].get("waves")) * 32 != kernel["workgroup_size"]
                 or kernel["runner_up"] and kernel["workgroups_per_compute_unit"] >= 2
                 and kernel["runner_up"]["modelled_seconds"] < kernel["chosen"]["modelled_seconds"]]
        session.check(not worse, f"{recipe}, {name}: what was chosen is what was built, and no slower than the next", worse)

    unfused = explain("--explain-kernels", *(f"--disable-pass={fusion}" for fusion in session.fusions()))
    split = waves_by_columns(kernels + unfused["kernels"])
    session.check(len(split) >= 2 and all(len(waves) == 1 for waves in split.values()),
                  f"{recipe}: waves along K depend on K and scheme alone", split)
    figures = {entry["pass"]: entry["figures"] for entry in report["passes"]}
    total = sum(program["launches"] for target in inspected["targets"] for program in target["programs"])
    session.check(int(figures["select"]["launches in all programs"]) == total, f"{recipe}: --explain-passes counts the launches",
                  (figures["select"], total))
    stored = {weight["name"]: weight["bytes"] for weight in inspected["weights"]}
    session.check(all(stored[weight["weight"]] == weight["bytes"] for weight in report["weights"]),
                  f"{recipe}: --explain-quant has the bytes of ingot inspect")
    text = session.run("ingotc", checkpoint, "-o", artifact, f"--recipe={recipe}", "-q", "--explain-kernels").stdout
    missing = [kernel["kernel"] for kernel in kernels if f"    {kernel['kernel']}, " not in text]
    session.check(not missing, f"{recipe}: the table has every kernel", missing)


support.main("explain", body)
