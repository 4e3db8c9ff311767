"""What the demo renders: one small scene each."""

SIZE = "1280x720"
WIDTH, HEIGHT = (int(part) for part in SIZE.split("x"))
SECONDS = 4
FPS = 24

PROMPTS = (
    "A lighthouse at dusk, its beam sweeping over a calm sea",
    "Paper lanterns rising over a river on a summer night",
    "A red fox trotting through fresh snow under birch trees",
    "Rain on a neon street, umbrellas drifting by",
    "A hot-air balloon above desert dunes at sunrise",
    "Northern lights rippling over a frozen lake",
    "Cherry blossoms falling on an old stone bridge",
    "A tiny robot watering sunflowers on a rooftop",
    "Waves of golden wheat before a thunderstorm",
    "A sailing ship among glowing jellyfish at midnight",
    "A city of glass towers waking in the morning fog",
    "A comet crossing the stars above snowy mountains",
)
