"""The order of the steps, and the modes: which steps run, with which settings, when the user names one. Data only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STEP_MODULES = (
    "steps.step0_acquire_darks",
    "steps.step1_load_data",
    "steps.step2_subtract_bias",
    "steps.step3_group_darks_by_temp_exp",
    "steps.step4_mask_hotpixels",
    "steps.step5_fit_dark_model",
    "steps.step6_generate_synthetic_darks",
    "steps.step7_evaluate_model",
    "steps.step8_check_model",
    "steps.step9_find_new_frames",
    "steps.step10_load_em_frames",
    "steps.step11_traditional_dark",
    "steps.step12_fit_noise_maps",
    "steps.step13_synthetic_noise_map_dark",
    "steps.step14_calibrate",
    "steps.step15_list_bad_pixels",
    "steps.step16_characterize",
    "steps.step17_export_library",
    "steps.step18_plan_campaign",
    "steps.step19_report",
    "steps.step20_find_detectors",
)
"""The order, but where a mode says another; step 20 comes first where there are many detectors. Steps 0, 1 and 20,
those of an EM-CCD, 16 and 18 see the whole output directory, the others one configuration at a time."""


def number_of(module: str) -> int:
    """The number of a step, from the name of its module."""
    found = re.match(r"steps\.step(\d+)_", module)
    assert found is not None, module
    return int(found[1])


EM_CCD_STEPS = (10, 11, 12, 13)
PLAN_STEP = number_of("steps.step18_plan_campaign")
STEPS_OF_ALL = (*EM_CCD_STEPS, 16, PLAN_STEP)  # besides 0 and 1
DETECTORS_STEP = number_of("steps.step20_find_detectors")
FIRST_STEP_OF_CAMPAIGN = 2
FIRST_STEP_OF_MODEL = 5  # those before it write what is known of the frames themselves
REPLACE_MODEL = (4, 5)  # steps that write into the folder of the model
DRAWING_STEPS = (7, 8, 16, PLAN_STEP, 19)


@dataclass(frozen=True)
class Mode:
    """What a mode is: data.

    steps : numbers, in order; frame_steps : further ones that go first where frames are given (--basepath);
    camera_steps : further ones that go first where a camera is configured.
    overrides : settings that the mode itself wants, by dotted place.
    required : settings that must be given, by the flag that gives them.
    checks : steps that hold the frames which the model has not seen against it, before a step replaces it.
    prunes : steps whose plan in this mode holds all of their products, so that the others can be removed.
    model_dir : dotted place of the setting that names the model, where new frames must not go into its own directory.
    instead : dotted place of a setting that stands for the folder of frames: where it is given, step 1 is left out and
    nothing is pruned.
    by_detector : whether it can be done for each detector of a focal plane.
    question : a function, 'module.name', that answers in lines of text instead of running steps.
    """

    help: str
    steps: tuple[int, ...] = ()
    frame_steps: tuple[int, ...] = ()
    camera_steps: tuple[int, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[int, ...] = ()
    prunes: tuple[int, ...] = ()
    model_dir: str | None = None
    question: str | None = None
    instead: str | None = None
    by_detector: bool = False


BASEPATH = "load_data.basepath"
FRAMES = {"--basepath": BASEPATH}
EM_FRAMES = {"--basepath": "load_em_frames.basepath"}
EM_SETTING = {"em_gain": "em_gain", "exptime_single": "exptime_single_s"}
CAMERA_ADDRESS = "camera.address"
CAMERA_SECTIONS = ("camera", "dark_capture")
FRAMES_STEP = number_of("steps.step1_load_data")
OF_EACH_DETECTOR = ("basepath", "model_dir", "bias_model")
"""Settings that name a folder which holds one a detector, by the detector's name."""
ONE_FILE = ("generate_synthetic_darks.output", "calibrate.output", "calibrate.like", "export_library.like")
"""Settings that many detectors cannot have in common."""
ONE_CELL = {
    "--temp_single": "generate_synthetic_darks.temp_single_c",
    "--exptime_single": "generate_synthetic_darks.exptime_single_s",
}


NEW_FRAMES = (9, 2, 3, 8)

EVALUATION: dict[str, Any] = {
    "by_detector": True,
    "steps": (7, 19),
    "frame_steps": (1, 2, 3, 4),
    "prunes": (1, 2, 3, 4, 7, 19),
    "model_dir": "evaluate_model.model_dir",
}


def _synthetic(what: str) -> dict[str, str]:
    return {"generate_synthetic_darks.what": what}


MODES: dict[str, Mode] = {
    "full": Mode(
        "everything: missing frames (with a camera), index, bias, master darks, models, darks, evaluation, report",
        steps=(1, 2, 3, 4, 5, 6, 7, 15, 19),
        camera_steps=(0,),
        overrides=_synthetic("cells"),
        required=FRAMES,
        checks=NEW_FRAMES,
        prunes=(1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 19),
        by_detector=True,
    ),
    "acquire": Mode("take the frames that are still missing, with a camera", steps=(0,)),
    "cameras": Mode("list the cameras that answer on this network", question="steps.step0_acquire_darks.list_cameras"),
    "fit_2d_model": Mode(
        "fit the models of temperature and exposure",
        steps=(1, 2, 3, 4, 5, 15),
        overrides={"fit_dark_model.model_set": "two_dimensional"},
        required=FRAMES,
        checks=NEW_FRAMES,
        prunes=(1, 2, 3, 4, 8, 9, 15),
        by_detector=True,
    ),
    "synthetic_only": Mode(
        "synthetic darks from a model: every cell, or the given --temps",
        (6,),
        overrides=_synthetic("temperatures"),
        by_detector=True,
    ),
    "synthetic_2d": Mode(
        "synthetic darks from a model: every cell, and --temps x --exptimes",
        (6,),
        overrides=_synthetic("grid"),
        by_detector=True,
    ),
    "synthetic_2d_single": Mode(
        "one synthetic dark, for --temp_single and --exptime_single",
        (6,),
        overrides=_synthetic("single"),
        required=ONE_CELL,
        by_detector=True,
    ),
    "export_library": Mode(
        "master darks for other programs: every cell, or --temps x --exptimes, in raw counts with the camera's header",
        steps=(17,),
        prunes=(17,),
        by_detector=True,
    ),
    "evaluation_only": Mode(
        "synthetic against real masters; with --basepath: against those of new frames", **EVALUATION
    ),
    "evaluate_2d_model": Mode("the same as evaluation_only", **EVALUATION),
    "report": Mode(
        "the report of what is there, anew: evaluation/report.html", steps=(19,), prunes=(19,), by_detector=True
    ),
    "check_model": Mode(
        "new frames against a model: has the camera aged? Ends with 3 if the model has drifted or is stale",
        steps=(1, 2, 3, 8),
        required={**FRAMES, "--model_dir": "check_model.model_dir"},
        prunes=(1, 2, 3, 8),
        model_dir="check_model.model_dir",
        by_detector=True,
    ),
    "calibrate": Mode(
        "bias and dark off light frames, each with the dark of its own exposure and temperature; with --like: one dark",
        steps=(1, 14),
        overrides={"load_data.kinds": ["light", "flat"]},
        required={**FRAMES, "--model_dir": "calibrate.model_dir"},
        prunes=(1, 14),
        model_dir="calibrate.model_dir",
        instead="calibrate.like",
        by_detector=True,
    ),
    "plan_campaign": Mode(
        "before frames are taken: the errors that the darks of a planned campaign would have, and what it costs",
        steps=(PLAN_STEP,),
        prunes=(PLAN_STEP,),
    ),
    "characterize": Mode(
        "one set of alike frames: master by median or average, each frame less it, statistics and pictures",
        steps=(1, 16),
        overrides={"load_data.kinds": ["bias", "dark", "light", "flat"]},
        required=FRAMES,
        prunes=(1, 16),
    ),
    "traditional_dark": Mode(
        "EM-CCD: master darks of each EM gain and exposure, or of --em_gain and --exptime_single",
        steps=(10, 11),
        required=EM_FRAMES,
        prunes=(10,),
    ),
    "fit_noise_maps": Mode(
        "EM-CCD: fixed pattern, clock-induced charge and dark current of every pixel",
        steps=(10, 12),
        required=EM_FRAMES,
        prunes=(10, 12),
    ),
    "synthetic_noise_map_dark": Mode(
        "EM-CCD: the dark of --em_gain and --exptime_single from noise maps",
        steps=(13,),
        required={f"--{name}": f"synthetic_noise_map_dark.{place}" for name, place in EM_SETTING.items()},
    ),
}
