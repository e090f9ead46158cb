#include "env/control/renderer.h"

#include <GL/osmesa.h>
#include <mujoco/mujoco.h>

#include <array>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/log.h"

namespace gato::env::control {
namespace {

// Pictures are drawn this many times larger and averaged down: smooth edges at a third of the cost of OSMesa's
// multisampling.
constexpr int kSupersampling = 3;
constexpr int kDrawnSide = kFrameSide * kSupersampling;
constexpr int kMaxGeoms = 1000;

/// MuJoCo loads the addresses of OpenGL's functions into globals with the first context of the process.
std::mutex& context_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// An OpenGL context that draws into memory. MuJoCo draws into a framebuffer of its own, so the
/// buffer that OSMesa asks for stays tiny.
class GlContext {
 public:
  GlContext() : context_(OSMesaCreateContextExt(OSMESA_RGBA, 24, 8, 0, nullptr)) {
    if (context_ == nullptr) throw Error("OSMesa gives no rendering context.");
  }
  GlContext(const GlContext&) = delete;
  GlContext& operator=(const GlContext&) = delete;
  ~GlContext() { OSMesaDestroyContext(context_); }

  void make_current() {
    if (OSMesaMakeCurrent(context_, buffer_.data(), GL_UNSIGNED_BYTE, kSide, kSide) == GL_FALSE) {
      throw Error("OSMesa's rendering context cannot be used.");
    }
  }

 private:
  static constexpr int kSide = 16;
  OSMesaContext context_;
  std::array<uint8_t, 4 * kSide * kSide> buffer_{};
};

/// What MuJoCo keeps to draw one model. Made, used and destroyed while the same GlContext is current.
class ModelScene {
 public:
  explicit ModelScene(std::shared_ptr<const mjModel> model) : model_(std::move(model)) {
    GATO_CHECK(model_->ncam > 0, "a model without a camera cannot be drawn");
    mjv_defaultOption(&option_);
    mjv_defaultScene(&scene_);
    mjv_defaultCamera(&camera_);
    mjr_defaultContext(&context_);
    camera_.type = mjCAMERA_FIXED;
    camera_.fixedcamid = 0;
    const std::lock_guard lock(context_mutex());
    mjv_makeScene(model_.get(), &scene_, kMaxGeoms);
    mjr_makeContext(model_.get(), &context_, mjFONTSCALE_50);
    mjr_resizeOffscreen(kDrawnSide, kDrawnSide, &context_);
    mjr_setBuffer(mjFB_OFFSCREEN, &context_);
    if (context_.currentBuffer != mjFB_OFFSCREEN) throw Error("OpenGL gives no offscreen buffer.");
  }
  ModelScene(const ModelScene&) = delete;
  ModelScene& operator=(const ModelScene&) = delete;
  ~ModelScene() {
    mjr_freeContext(&context_);
    mjv_freeScene(&scene_);
  }

  /// kDrawnSide x kDrawnSide x 3 bytes, bottom row first. `variant` is the model or differs from it in numbers only.
  const std::vector<uint8_t>& draw(const mjModel& variant, mjData& data) {
    const mjrRect viewport{0, 0, kDrawnSide, kDrawnSide};
    mjr_setBuffer(mjFB_OFFSCREEN, &context_);  // another model's buffer may be the current one
    mjv_updateScene(&variant, &data, &option_, nullptr, &camera_, mjCAT_ALL, &scene_);
    mjr_render(viewport, &scene_, &context_);
    mjr_readPixels(pixels_.data(), nullptr, viewport, &context_);
    return pixels_;
  }

 private:
  std::shared_ptr<const mjModel> model_;
  mjvOption option_{};
  mjvScene scene_{};
  mjvCamera camera_{};
  mjrContext context_{};
  std::vector<uint8_t> pixels_ = std::vector<uint8_t>(size_t{3} * kDrawnSide * kDrawnSide);
};

/// `large` (bottom row first) averaged over squares of kSupersampling pixels, top row first.
episode::Image shrink(const std::vector<uint8_t>& large) {
  constexpr int kArea = kSupersampling * kSupersampling;
  episode::Image image{.height = kFrameSide, .width = kFrameSide, .pixels = {}};
  image.pixels.reserve(size_t{3} * kFrameSide * kFrameSide);
  const auto sample = [&](int y, int x, int channel) {
    return large[static_cast<size_t>(((kDrawnSide - 1 - y) * kDrawnSide + x) * 3 + channel)];
  };
  for (int y = 0; y < kFrameSide; ++y) {
    for (int x = 0; x < kFrameSide; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        int sum = kArea / 2;  // rounds to nearest
        for (int i = 0; i < kArea; ++i) {
          sum += sample(y * kSupersampling + i / kSupersampling, x * kSupersampling + i % kSupersampling, channel);
        }
        image.pixels.push_back(static_cast<uint8_t>(sum / kArea));
      }
    }
  }
  return image;
}

/// A context and the models drawn in it so far. Used by one thread at a time.
class Renderer {
 public:
  Renderer() = default;
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;
  ~Renderer() {
    try {
      gl_.make_current();
      scenes_.clear();
    } catch (const std::exception&) {
      for (auto& [model, scene] : scenes_) static_cast<void>(scene.release());  // cannot be freed without its context
    }
  }

  episode::Image render(const std::shared_ptr<const mjModel>& model, const mjModel& variant, mjData& data) {
    gl_.make_current();
    std::unique_ptr<ModelScene>& scene = scenes_[model.get()];
    if (scene == nullptr) scene = std::make_unique<ModelScene>(model);
    return shrink(scene->draw(variant, data));
  }

  /// Parts the context from the calling thread, so that another may use it.
  static void leave_thread() { OSMesaMakeCurrent(nullptr, nullptr, 0, 0, 0); }

 private:
  GlContext gl_;
  std::map<const mjModel*, std::unique_ptr<ModelScene>> scenes_;
};

/// Renderers of threads that ended, for those that come: a renderer takes long to make, threads are made often, and
/// OSMesa loses some memory with every context it destroys.
class RendererPool {
 public:
  /// Never destroyed: at the end of the process OSMesa's own state may be gone before.
  static RendererPool& instance() {
    static RendererPool& pool = *new RendererPool;
    return pool;
  }

  std::unique_ptr<Renderer> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Renderer> renderer = std::move(idle_.back());
        idle_.pop_back();
        return renderer;
      }
    }
    return std::make_unique<Renderer>();
  }

  void give_back(std::unique_ptr<Renderer> renderer) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(renderer));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Renderer>> idle_;
};

/// The renderer that one thread holds from its first picture to its end.
class ThreadRenderer {
 public:
  ThreadRenderer() = default;
  ThreadRenderer(const ThreadRenderer&) = delete;
  ThreadRenderer& operator=(const ThreadRenderer&) = delete;
  ~ThreadRenderer() {
    if (renderer_ == nullptr) return;
    Renderer::leave_thread();
    RendererPool::instance().give_back(std::move(renderer_));
  }

  std::optional<episode::Image> render(const std::shared_ptr<const mjModel>& model, const mjModel& variant,
                                       mjData& data) {
    if (failed_) return std::nullopt;
    try {
      if (renderer_ == nullptr) renderer_ = RendererPool::instance().take();
      return renderer_->render(model, variant, data);
    } catch (const std::exception& error) {
      static std::atomic<bool> said = false;
      if (!said.exchange(true)) log::warning("env", "No pictures of control tasks: ", error.what());
      failed_ = true;
      renderer_.reset();
      return std::nullopt;
    }
  }

 private:
  std::unique_ptr<Renderer> renderer_;
  bool failed_ = false;
};

}  // namespace

std::optional<episode::Image> render_frame(const std::shared_ptr<const mjModel>& model, mjData& data) {
  return render_frame(model, *model, data);
}

std::optional<episode::Image> render_frame(const std::shared_ptr<const mjModel>& model, const mjModel& variant,
                                           mjData& data) {
  thread_local ThreadRenderer renderer;
  return renderer.render(model, variant, data);
}

}  // namespace gato::env::control
