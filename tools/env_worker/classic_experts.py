"""Experts for small control tasks of Gymnasium: textbook control, checked by measurement (data/environments/gymnasium.json).
Each takes the environment and returns a function from observation to action."""
import numpy as np


def cart_pole(_):
    gains = np.array([0.5, 1.0, 12.0, 2.5])
    return lambda state: int(gains @ state > 0)


def mountain_car(_):
    """Pushing along the motion gains energy."""
    return lambda state: 2 if state[1] >= 0 else 0


def mountain_car_continuous(_):
    return lambda state: 1.0 if state[1] >= 0 else -1.0


def pendulum(env):
    """Swings up by energy, then balances."""

    def act(state):
        cosine, sine, speed = state
        angle = np.arctan2(sine, cosine)
        # With mass and length 1 the equations are those of a rod: energy 0 upright at rest.
        energy = speed**2 / 6 + env.g / 2 * (cosine - 1)
        if cosine > 0.85 and abs(speed) < 4:
            return -(12 * angle + 3 * speed)
        return 2.0 * np.sign(speed if speed != 0 else 1.0) * (1 if energy < 0 else -1)

    return act


def acrobot(_):
    """Pushing the lower link along the upper one's motion gains energy."""
    return lambda state: 2 if state[4] < 0 else 0


def linearized(env):
    """x' = A x + B u of one step of a MuJoCo model around its rest, by central differences."""
    import mujoco

    model, data, size, step = env.model, mujoco.MjData(env.model), 2 * env.model.nv, 1e-5

    def after(state, control):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = state[: model.nv], state[model.nv :], control
        for _ in range(env.frame_skip):
            mujoco.mj_step(model, data)
        return np.concatenate([data.qpos, data.qvel])

    def slopes(function, count):
        return np.stack([(function(d) - function(-d)) / (2 * step) for d in np.eye(count) * step], axis=1)

    none = np.zeros(model.nu)
    return slopes(lambda d: after(d, none), size), slopes(lambda d: after(np.zeros(size), d), model.nu)


def lqr_gains(env, state_cost, action_cost):
    """Gains u = -K x of the linear-quadratic regulator around the upright rest, x = (positions, speeds)."""
    a, b = linearized(env)
    cost = q = np.diag(state_cost).astype(float)
    r = np.eye(b.shape[1]) * action_cost
    for _ in range(2000):
        gains = np.linalg.solve(r + b.T @ cost @ b, b.T @ cost @ a)
        cost = q + a.T @ cost @ (a - b @ gains)
    return gains


def inverted_pendulum(env):
    gains = lqr_gains(env, [1, 10, 0.1, 0.1], 1.0)
    return lambda _: -gains @ np.concatenate([env.data.qpos, env.data.qvel])


def inverted_double_pendulum(env):
    gains = lqr_gains(env, [1, 10, 10, 0.1, 0.1, 0.1], 1.0)
    return lambda _: -gains @ np.concatenate([env.data.qpos, env.data.qvel])


def reacher(env):
    """Pulls the fingertip to the target by the transposed Jacobian, with damping."""
    import mujoco

    jacobian = np.zeros((3, env.model.nv))
    body = env.model.body("fingertip").id

    def act(_):
        tip, target = env.data.body("fingertip").xpos, env.data.body("target").xpos
        mujoco.mj_jacBody(env.model, env.data, jacobian, None, body)
        pull = jacobian[:2, :2].T @ (target - tip)[:2]
        return 12.0 * pull - 0.12 * env.data.qvel[:2]

    return act


EXPERTS = {
    "Acrobot-v1": acrobot,
    "CartPole-v1": cart_pole,
    "InvertedDoublePendulum-v5": inverted_double_pendulum,
    "InvertedPendulum-v5": inverted_pendulum,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car_continuous,
    "Pendulum-v1": pendulum,
    "Reacher-v5": reacher,
}
