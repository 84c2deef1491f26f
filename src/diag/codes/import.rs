//! Codes of the area `import`: a folder of somebody else's becomes a graph.

use super::{Code, environment, input};

pub(super) const CODES: &[Code] = &[
    input(
        "import/not-a-pipeline",
        "The folder is not a pipeline in the layout of diffusers: a folder with model_index.json and a folder for each component. The help says what the folder seems to be.",
    ),
    input(
        "import/hub-id",
        "What was given is the name of a model on the hub, not a folder. vidc downloads no models: fetch it (`hf download OWNER/NAME --local-dir DIR`) and import the folder.",
    ),
    input(
        "import/single-file",
        "A single safetensors file holds weights and no configurations, so no graph can be made of it. diffusers makes a folder of it (`from_single_file`, `save_pretrained`), which can be imported.",
    ),
    input(
        "import/pickle",
        "A pickled checkpoint (.bin, .ckpt, .pt) runs code when it is loaded; vidc never loads one. Use the model's safetensors files, or convert it where you trust it.",
    ),
    input(
        "import/folder-name",
        "The name of the folder is not UTF-8, so it cannot stand in a graph. Rename the folder or link to it under another name.",
    ),
    environment(
        "import/missing-file",
        "The folder lacks a file that belongs to the pipeline. The download is not complete; fetch the folder again.",
    ),
    input(
        "import/bad-json",
        "A file of the folder is not the JSON object that it should be, or is larger than any such file. It is damaged, or a git-lfs pointer; fetch it again.",
    ),
    input(
        "import/path-escape",
        "A component or file of the folder is a link that leads out of it, or no regular file. Only links within the folder, and those of the model hub's cache, are followed.",
    ),
    input(
        "import/unknown-pipeline",
        "The folder holds a pipeline of a class for which vidc has no graph. The help lists the classes that can be imported; a graph for another can be written by hand from the architectures that vidc builds.",
    ),
    input(
        "import/unknown-component",
        "A component of the pipeline is missing from model_index.json, or is of another class than the graph calls, so the graph would compute something else.",
    ),
    input(
        "import/unsupported-scheduler",
        "The scheduler is set up in a way that the graph cannot express. The message names the key and its value, the help the value that can be expressed. A missing key counts with the default of its class.",
    ),
    input(
        "import/preprocessor",
        "The configuration of the picture's preprocessing is not what the graph can do: three means, three standard deviations, and the size that the image encoder takes.",
    ),
    input(
        "import/config",
        "A config.json gives the pipeline a value that its graph cannot have, such as a frame count below one. The message names the file and the key.",
    ),
];
