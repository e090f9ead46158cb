#pragma once
#include <string>
#include <utility>
#include <vector>

namespace gato::eval {

/// A whole page of the report: style and script are inside, nothing is loaded from elsewhere. `title` is text; `links`
/// (address, text) are the navigation, `body` is HTML. The page can be read without the script, which adds finding,
/// sorting and holding of animations.
[[nodiscard]] std::string html_page(const std::string& title, const std::string& subtitle,
                                    const std::vector<std::pair<std::string, std::string>>& links,
                                    const std::string& body);

}  // namespace gato::eval
